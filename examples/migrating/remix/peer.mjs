// Prints the Set-Cookie headers that Remix's own code makes, as JSON:
// { library: { kind: header } }. The first argument is the secrets, as JSON.

import { createCookieSessionStorage as remix } from '@remix-run/node'
import { createCookieSessionStorage as router } from 'react-router'
import { createCookie } from '@remix-run/cookie'
import { createCookieSessionStorage as remix3 } from '@remix-run/session/cookie-storage'

const { current, older, foreign } = JSON.parse(process.argv[2])
const attributes = { path: '/', secure: true, httpOnly: true, sameSite: 'lax', maxAge: 604800 }

function signIn(session) {
  session.set('userId', 42)
  session.set('name', 'Ada Løvelace')
  session.set('cart', ['tea', '😀'])
  session.flash('message', 'Welcome')
}

async function two(createCookieSessionStorage, secrets, after = 'commitSession') {
  const storage = createCookieSessionStorage({ cookie: { name: '__session', secrets, ...attributes } })
  const session = await storage.getSession(null)
  signIn(session)
  return storage[after](session)
}

// As session-middleware does it: read, then save, then serialize.
async function three(secrets, destroy = false) {
  const cookie = createCookie('__session', { secrets, ...attributes, sameSite: 'Lax' })
  const storage = remix3()
  const session = await storage.read(null)
  signIn(session)
  if (destroy) session.destroy()
  return cookie.serialize(await storage.save(session))
}

// As session-middleware does it since 0.5, which npm does not have yet, for a cookie
// with maxAge: its CHANGELOG and its session-expiration.test.ts describe the value.
async function timed(secrets, { destroy = false, expires = Date.now() + 604800000, fill = signIn, wrap } = {}) {
  const cookie = createCookie('__session', { secrets, ...attributes, sameSite: 'Lax' })
  const storage = remix3()
  const session = await storage.read(null)
  fill(session)
  if (destroy) session.destroy()
  const value = await storage.save(session)
  wrap ??= (value) => ({ value, expires })
  return cookie.serialize(value && JSON.stringify(wrap(value)))
}

const of = async (make, destroyed) => ({
  signedIn: await make([current]),
  olderSecret: await make([older, 'and another']),
  foreign: await make([foreign]),
  unsigned: await make([]),
  destroyed: await destroyed([current]),
})

console.log(JSON.stringify({
  'Remix 2': await of((s) => two(remix, s), (s) => two(remix, s, 'destroySession')),
  'React Router 7': await of((s) => two(router, s), (s) => two(router, s, 'destroySession')),
  'Remix 3': await of(three, (s) => three(s, true)),
  'Remix 3 with a lifetime': {
    ...await of(timed, (s) => timed(s, { destroy: true })),
    ended: await timed([current], { expires: Date.now() }),
    endless: await timed([current], { wrap: (value) => ({ value }) }),
    infinite: await timed([current], { wrap: (value) => ({ value, expires: null }) }),
    otherFields: await timed([current], { fill: (session) => session.set('account', 7) }),
    otherShape: await timed([current], { wrap: (value) => ({ v: 2, payload: value }) }),
  },
}))
