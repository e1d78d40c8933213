// The contenders of Node.js: programs that keep for a visitor what those in Go
// keep (../shop.go), each set up as its documentation recommends.

import { IncomingMessage, ServerResponse } from 'node:http'
import { createCookie } from '@remix-run/cookie'
import { createRouter } from '@remix-run/fetch-router'
import { Session } from '@remix-run/session'
import { createCookieSessionStorage } from '@remix-run/session/cookie-storage'
import { session as remixMiddleware } from '@remix-run/session-middleware'
import expressSession from 'express-session'
import { getIronSession } from 'iron-session'

const cookieName = '__Host-Http-session'
const secret = '0123456789abcdefghijklmnopqrstuv'
const lifetime = 24 * 60 * 60

const keys = ['uid', 'name', 'role', 'cart', 'seen']

function assign(shop, set) {
  for (const key of keys) {
    if (shop[key] !== undefined) {
      set(key, shop[key])
    }
  }
}

function collect(get) {
  const shop = {}
  for (const key of keys) {
    const value = get(key)
    if (value !== undefined) {
      shop[key] = value
    }
  }
  return shop
}

// Every contender has, for each work, a function that makes a handler. A handler
// is given the Cookie header of a request, and resolves to the Set-Cookie line of
// the response, if there is one. In read, got is called with what was read.

// Node.js makes these two for each request; nothing is sent.
const socket = { encrypted: true }

class Response extends ServerResponse {
  end(...args) {
    super.end(...args)
    this.ended()
    return this
  }
}

function serveNode(handle) {
  return (cookie) =>
    new Promise((resolve, reject) => {
      const req = new IncomingMessage(socket)
      req.method = 'GET'
      req.url = '/'
      req.headers = { host: 'shop.example', 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64)' }
      if (cookie) {
        req.headers.cookie = cookie
      }
      const res = new Response(req)
      res.ended = () => resolve([res.getHeader('set-cookie')].flat()[0])
      Promise.resolve(handle(req, res)).catch(reject)
    })
}

function express() {
  const middleware = expressSession({
    name: cookieName,
    secret,
    resave: false,
    saveUninitialized: false,
    cookie: { path: '/', maxAge: lifetime * 1000, httpOnly: true, secure: true, sameSite: 'lax' },
  })
  const serve = (handle) =>
    serveNode(
      (req, res) =>
        new Promise((resolve, reject) => {
          middleware(req, res, (err) => {
            if (err) {
              reject(err)
              return
            }
            resolve(handle(req, res))
          })
        }),
    )
  return {
    forgets: true,
    read: (got) =>
      serve((req, res) => {
        got(collect((key) => req.session[key]))
        res.end()
      }),
    write: (next) =>
      serve((req, res) => {
        req.session.uid = next()
        res.end()
      }),
    idle: () => serve((req, res) => res.end()),
    login: (shop) =>
      serve(
        (req, res) =>
          new Promise((resolve, reject) => {
            req.session.regenerate((err) => {
              if (err) {
                reject(err)
                return
              }
              assign(shop, (key, value) => (req.session[key] = value))
              res.end()
              resolve()
            })
          }),
      ),
  }
}

function iron() {
  const open = (req, res) =>
    getIronSession(req, res, {
      cookieName,
      password: secret,
      ttl: lifetime,
      cookieOptions: { path: '/', maxAge: lifetime, httpOnly: true, secure: true, sameSite: 'lax' },
    })
  return {
    read: (got) =>
      serveNode(async (req, res) => {
        const session = await open(req, res)
        got(collect((key) => session[key]))
        res.end()
      }),
    write: (next) =>
      serveNode(async (req, res) => {
        const session = await open(req, res)
        session.uid = next()
        await session.save()
        res.end()
      }),
    login: (shop) =>
      serveNode(async (req, res) => {
        const session = await open(req, res)
        assign(shop, (key, value) => (session[key] = value))
        await session.save()
        res.end()
      }),
  }
}

function remix() {
  const cookie = createCookie(cookieName, {
    secrets: [secret],
    path: '/',
    maxAge: lifetime,
    httpOnly: true,
    secure: true,
    sameSite: 'Lax',
  })
  const storage = createCookieSessionStorage()
  const serve = (handle) => {
    const router = createRouter({ middleware: [remixMiddleware(cookie, storage)] })
    router.get('/', (context) => {
      handle(context)
      return new globalThis.Response(null)
    })
    return async (cookie) => {
      const headers = { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64)' }
      if (cookie) {
        headers.cookie = cookie
      }
      const response = await router.fetch(new Request('https://shop.example/', { headers }))
      if (response.status !== 200) {
        throw new Error(`Remix answers ${response.status}`)
      }
      return response.headers.get('set-cookie') ?? undefined
    }
  }
  return {
    read: (got) =>
      serve((context) => {
        const session = context.get(Session)
        got(collect((key) => session.get(key)))
      }),
    write: (next) => serve((context) => context.get(Session).set('uid', next())),
    idle: () => serve(() => {}),
    login: (shop) =>
      serve((context) => {
        const session = context.get(Session)
        session.regenerateId()
        assign(shop, (key, value) => session.set(key, value))
      }),
  }
}

export const contenders = { remix, express, iron }
