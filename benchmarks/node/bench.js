// Measures the contenders of Node.js and prints what "go test -bench" would.
// Handlers are called in the process, without a socket, as those in Go are; 16
// requests are under way at once, since what waits for a thread or a turn of the
// event loop costs a server no time that another request could not use.
//
//   node bench.js [-time milliseconds]   of each benchmark
//   node bench.js -check                 only checks that each does its work
//
// Nothing is measured that does not do its work: that is checked first.

import assert from 'node:assert/strict'
import { contenders } from './contenders.js'

const concurrency = 16

const visitor = {
  uid: 123456,
  name: 'Ada Lovelace',
  role: 'user',
  cart: [101, 2002, 30003, 404, 5005, 60006, 707, 8008],
  seen: 1_790_000_000,
}
const newcomer = { uid: 123456, name: 'Ada Lovelace', role: 'user' }

const around = (cookie) => `theme=dark; ${cookie}; lang=en`
const cookieOf = (line) => line.split(';')[0]

function forged(cookie) {
  const at = cookie.length - 10
  return cookie.slice(0, at) + (cookie[at] === 'A' ? 'B' : 'A') + cookie.slice(at + 1)
}

async function check(name, app) {
  const says = (claim) => `${name}: ${claim}`
  const read = async (cookie) => {
    let shop
    await app.read((got) => (shop = got))(around(cookie))
    return shop
  }
  const cookie = cookieOf(await app.login(visitor)())
  assert.deepEqual(await read(cookie), visitor, says('R returns what the login stored'))

  const written = cookieOf((await app.write(() => 7)(around(cookie))) ?? cookie)
  assert.deepEqual(await read(written), { ...visitor, uid: 7 }, says('W is visible to the next request'))

  if (app.idle) {
    assert.equal(await app.idle()(), undefined, says('N sets no cookie'))
    assert.equal(await app.idle()(around(cookie)), undefined, says('U sets no cookie'))
  }

  assert.deepEqual(await read(forged(written)), {}, says('F is refused'))

  const line = await app.login(newcomer)(around(written))
  assert.notEqual(cookieOf(line), written, says('L changes the cookie'))
  for (const attribute of [/; path=\//i, /; (max-age=86400|expires=)/i, /; httponly/i, /; secure/i, /; samesite=lax/i]) {
    assert.match(line, attribute, says('L sets the same attributes as the others'))
  }
  assert.equal((await read(cookieOf(line))).uid, newcomer.uid, says('L signs in'))
  if (app.forgets) {
    assert.deepEqual(await read(written), {}, says('what was there before L is gone'))
  }
}

function expect(there) {
  return (shop) => {
    if ((shop.cart?.length > 0) !== there) {
      throw new Error('the session is not what it should be')
    }
  }
}

let count = 0
const works = {
  R: { cookie: (real) => around(real), handler: (app) => app.read(expect(true)) },
  W: { cookie: (real) => around(real), handler: (app) => app.write(() => ++count) },
  N: { cookie: () => undefined, handler: (app) => app.idle?.() },
  U: { cookie: (real) => around(real), handler: (app) => app.idle?.() },
  F: { cookie: (real) => around(forged(real)), handler: (app) => app.read(expect(false)) },
  L: { cookie: () => undefined, handler: (app) => app.login(newcomer) },
}

// run sends requests for so many milliseconds.
async function run(handle, cookie, milliseconds) {
  const start = performance.now()
  let n = 0
  const visit = async () => {
    do {
      await handle(cookie)
      n++
    } while (performance.now() - start < milliseconds)
  }
  await Promise.all(Array.from({ length: concurrency }, visit))
  return { n, ns: ((performance.now() - start) * 1e6) / n }
}

const args = process.argv.slice(2)
const time = args[0] === '-time' ? Number(args[1]) : 200

const apps = Object.entries(contenders).map(([name, open]) => [name, open()])
for (const [name, app] of apps) {
  await check(name, app)
}
if (args[0] !== '-check') {
  for (const [work, { cookie, handler }] of Object.entries(works)) {
    for (const [name, app] of apps) {
      const handle = handler(app)
      if (!handle) {
        continue
      }
      const header = cookie(cookieOf(await app.login(visitor)()))
      await run(handle, header, time) // the compiler's turn
      const { n, ns } = await run(handle, header, time)
      console.log(`BenchmarkRequest/work=${work}/by=${name} ${n} ${ns.toFixed(1)} ns/op`)
    }
  }
}
