// Reads every vector beside this file by what docs/FORMAT.md says, with nothing
// of the library and nothing but Node's own crypto, and exits with 1 if it makes
// anything else of one than the vector says. Run it with: node verify.mjs
import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'

class Refused extends Error {}
const refuse = (result) => { throw new Refused(result) }
const undecodable = () => refuse('undecodable')

// ---------------------------------------------------------------- MessagePack

// A reader of the forms of MessagePack. Integers are BigInts.
class Reader {
  constructor(b) { this.b = b; this.i = 0 }
  take(n) {
    if (n > this.b.length - this.i) undecodable()
    this.i += n
    return this.b.subarray(this.i - n, this.i)
  }
  uint(n) { return n === 8 ? this.take(8).readBigUInt64BE() : BigInt(this.take(n).readUIntBE(0, n)) }
  length(n) { return Number(this.uint(n)) }

  // next reads the head of a value, and the whole of one without elements.
  next() {
    const c = this.take(1)[0]
    if (c < 0x80) return { kind: 'int', value: BigInt(c) }
    if (c < 0x90) return { kind: 'map', value: c & 15 }
    if (c < 0xa0) return { kind: 'array', value: c & 15 }
    if (c < 0xc0) return { kind: 'str', value: this.take(c & 31) }
    if (c >= 0xe0) return { kind: 'int', value: BigInt(c - 256) }
    if (c === 0xc0) return { kind: 'nil' }
    if (c === 0xc2 || c === 0xc3) return { kind: 'bool', value: c === 0xc3 }
    if (c >= 0xc4 && c <= 0xc6) return { kind: 'bin', value: this.take(this.length(1 << (c - 0xc4))) }
    if (c >= 0xc7 && c <= 0xc9) return this.extension(this.length(1 << (c - 0xc7)))
    if (c === 0xca) return { kind: 'float', bits: 32, value: this.take(4).readFloatBE() }
    if (c === 0xcb) return { kind: 'float', bits: 64, value: this.take(8).readDoubleBE() }
    if (c >= 0xcc && c <= 0xcf) return { kind: 'int', value: this.uint(1 << (c - 0xcc)) }
    if (c >= 0xd0 && c <= 0xd3) return { kind: 'int', value: BigInt.asIntN(8 << (c - 0xd0), this.uint(1 << (c - 0xd0))) }
    if (c >= 0xd4 && c <= 0xd8) return this.extension(1 << (c - 0xd4))
    if (c >= 0xd9 && c <= 0xdb) return { kind: 'str', value: this.take(this.length(1 << (c - 0xd9))) }
    if (c >= 0xdc && c <= 0xdd) return { kind: 'array', value: this.length(2 << (c - 0xdc)) }
    if (c >= 0xde && c <= 0xdf) return { kind: 'map', value: this.length(2 << (c - 0xde)) }
    return undecodable() // c1
  }
  extension(size) { return { kind: 'ext', type: this.take(1).readInt8(), value: this.take(size) } }

  skip(depth = 0) {
    const { kind, value } = this.next()
    if (kind !== 'array' && kind !== 'map') return
    if (value > 0 && depth === 100) undecodable()
    for (let n = kind === 'map' ? 2 * value : value; n > 0; n--) this.skip(depth + 1)
  }
}

// ------------------------------------------------- the session of the vectors

// A kind has the JSON of its zero value, and of what a Reader has next.
const kind = (zero, read, nil = true) => ({
  zero,
  read(r) {
    const start = r.i
    const v = r.next()
    if (v.kind !== 'nil') return read(v, r, start)
    return nil ? zero() : undecodable()
  },
})
const integer = (low, high, json) => kind(() => json(0n), ({ kind, value }) => {
  if (kind !== 'int' || value < low || value > high) undecodable()
  return json(value)
})
const signed = (bits, json = Number) => integer(-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n, json)
const unsigned = (bits, json = Number) => integer(0n, 2n ** bits - 1n, json)
const float = (width) => kind(() => 0, ({ kind, value, bits }) => {
  if (kind !== 'int' && (kind !== 'float' || bits > width)) undecodable()
  return Number(value)
})
const blob = (zero, json) => kind(zero, ({ kind, value }) => {
  if (kind !== 'str' && kind !== 'bin') undecodable()
  return json(value)
})
const bool = kind(() => false, ({ kind, value }) => kind === 'bool' ? value : undecodable())
const string = blob(() => '', (b) => b.toString('utf8'))
const bytes = blob(() => null, (b) => b.toString('base64'))
const list = (elem) => kind(() => null, ({ kind, value }, r) => {
  if (kind !== 'array' || value > r.b.length - r.i) undecodable()
  return Array.from({ length: value }, () => elem.read(r))
})
const map = (key, elem) => kind(() => null, ({ kind, value }, r) => {
  if (kind !== 'map' || 2 * value > r.b.length - r.i) undecodable()
  const out = {}
  for (let n = value; n > 0; n--) {
    const k = String(key.read(r))
    out[k] = elem.read(r)
  }
  return out
})
const time = kind(() => '0001-01-01T00:00:00Z', ({ kind, type, value: b }) => {
  if (kind !== 'ext' || type !== -1) undecodable()
  let seconds, nanos = 0n
  if (b.length === 4) seconds = BigInt(b.readUInt32BE())
  else if (b.length === 8) [nanos, seconds] = [b.readBigUInt64BE() >> 34n, b.readBigUInt64BE() & (1n << 34n) - 1n]
  else if (b.length === 12) [nanos, seconds] = [BigInt(b.readUInt32BE()), b.readBigInt64BE(4)]
  else undecodable()
  if (nanos > 999_999_999n || seconds < -62135596800n || seconds > 253402300799n) undecodable()
  const fraction = nanos === 0n ? '' : '.' + String(nanos).padStart(9, '0').replace(/0+$/, '')
  return new Date(Number(seconds) * 1000).toISOString().slice(0, 19) + fraction + 'Z'
}, false)
const struct = (fields) => kind(
  () => Object.fromEntries(Object.entries(fields).map(([name, k]) => [name, k.zero()])),
  ({ kind, value }, r) => {
    if (kind !== 'map') undecodable()
    const out = {}, names = new Set()
    for (let n = value; n > 0; n--) {
      const name = r.next()
      if (name.kind !== 'str') undecodable()
      const field = name.value.toString('utf8')
      if (names.has(name.value.toString('hex'))) undecodable()
      names.add(name.value.toString('hex'))
      if (!Object.hasOwn(fields, field)) r.skip()
      else out[field] = fields[field].read(r)
    }
    for (const [name, k] of Object.entries(fields)) out[name] ??= k.zero()
    return out
  })
const pointer = (to) => kind(() => null, (_, r, start) => {
  r.i = start
  return to.read(r)
})

const address = struct({ city: string, zip: unsigned(32n) })
const session = struct({
  uid: signed(64n, String), role: string, admin: bool, level: signed(8n), port: unsigned(16n), big: unsigned(64n, String),
  score: float(64), ratio: float(32), token: bytes, tags: list(string), cart: map(string, unsigned(32n)),
  rooms: map(signed(32n), string), seen: time, home: address, work: pointer(address),
})

// ------------------------------------------------------------------- the keys

function keysOf(secret, mode, cookie) {
  const derive = (info, n) => Buffer.from(hkdfSync('sha256', secret, '', 'typedsessions v1\0' + info, n))
  return { id: derive('key id', 4), sign: derive(`sign\0${mode}\0${cookie}`, 32), seal: derive(`seal\0${mode}\0${cookie}`, 32) }
}

function unseal(key, nonce, sealed, associated) {
  const block = (b) => {
    const c = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false)
    return Buffer.concat([c.update(b), c.final()])
  }
  const l = BigInt('0x' + block(Buffer.alloc(16)).toString('hex'))
  const k1 = BigInt.asUintN(128, l << 1n) ^ (l >> 127n === 1n ? 0x87n : 0n)
  const half = (n) => {
    const m = BigInt('0x' + Buffer.concat([Buffer.from([0, n, 0x58, 0]), nonce.subarray(0, 12)]).toString('hex'))
    return block(Buffer.from((m ^ k1).toString(16).padStart(32, '0'), 'hex'))
  }
  const d = createDecipheriv('aes-256-gcm', Buffer.concat([half(1), half(2)]), nonce.subarray(12), { authTagLength: 16 })
  d.setAAD(associated)
  d.setAuthTag(sealed.subarray(-16))
  try {
    return Buffer.concat([d.update(sealed.subarray(0, -16)), d.final()])
  } catch {
    return null
  }
}

// authentic returns what stands behind the key id, without HMAC, nonce and tag.
function authentic(b, v, mode, id = Buffer.alloc(0)) {
  for (const secret of v.secrets) {
    const keys = keysOf(Buffer.from(secret, 'base64'), mode, v.cookie)
    if (!keys.id.equals(b.subarray(1, 5))) continue
    if (b[0] === 0x02 || b[0] === 0x12) {
      const body = unseal(keys.seal, b.subarray(5, 29), b.subarray(29), Buffer.concat([b.subarray(0, 5), id]))
      if (body) return body
    } else {
      const mac = createHmac('sha256', keys.sign).update(b.subarray(0, -32)).digest()
      if (timingSafeEqual(mac, b.subarray(-32))) return b.subarray(5, -32)
    }
  }
  return null
}

// ------------------------------------------------------- cookies and records

function tokenOf(value, format, least, most) {
  if (!/^[A-Za-z0-9_-]*$/.test(value) || value.length > 4096) refuse('forged')
  const b = Buffer.from(value, 'base64url')
  if (b.toString('base64url') !== value || b.length < least || b.length > most || b[0] !== format) refuse('forged')
  return b
}

// uvarint reads a number of seven bits to the byte, the lowest first, in its
// shortest spelling.
function uvarint(r) {
  for (let n = 0, scale = 1, size = 1; ; scale *= 128, size++) {
    const c = r.take(1)[0]
    if (size > 5 || size > 1 && c === 0) undecodable()
    n += (c & 127) * scale
    if (c < 128) return n
  }
}

function extensionsOf(r) {
  const entries = r.take(uvarint(r))
  let newer = false
  for (let e = new Reader(entries), last = -1; e.i < entries.length;) {
    const tag = e.take(1)[0]
    if (tag <= last) undecodable()
    last = tag
    e.take(uvarint(e))
    newer ||= tag >= 0x80
  }
  if (newer) refuse('newer')
  return entries
}

// deviceIn returns what the extensions say of a device, see docs/DBSC.md. Nothing
// if they have no such tag, or if this program cannot read it.
function deviceIn(entries) {
  for (let e = new Reader(entries); e.i < entries.length;) {
    const tag = e.take(1)[0], value = e.take(uvarint(e))
    const phase = { 1: 'offered', 2: 'registered', 3: 'bound' }[value[0]]
    const size = { offered: 6, registered: 39, bound: 39 }[phase]
    if (tag !== 0x01 || value.length !== size) continue
    const device = { phase, since: value.readUIntBE(1, 5) }
    return { device: size === 6 ? device : { ...device, key: value.toString('hex', 6) } }
  }
}

function flashesOf(r) {
  const start = r.i
  const { kind, value: n } = r.next()
  if (kind !== 'array' || n % 2 !== 0 || n > 64 || r.i - start !== (n < 16 ? 1 : 3)) undecodable()
  const strings = []
  for (let i = 0; i < n; i++) {
    const start = r.i
    const { kind, value } = r.next()
    const size = value?.length
    const head = size < 32 ? 1 : size < 2 ** 8 ? 2 : size < 2 ** 16 ? 3 : 5
    if (kind !== 'str' || r.i - start - size !== head) undecodable()
    strings.push(value.toString('utf8'))
  }
  return Array.from({ length: n / 2 }, (_, i) => [strings[2 * i], strings[2 * i + 1]])
}

function sessionOf(body, v, id) {
  const head = {
    created: body.readUIntBE(0, 5), used: body.readUIntBE(5, 5), expires: body.readUIntBE(10, 5),
    lifetime: body.readUInt32BE(15), schema: body.readUInt16BE(19), id: body.toString('hex', 25, 41),
  }
  if (id) {
    if (head.id !== id.slice(0, 32)) undecodable()
    head.id = id
  }
  if (head.expires <= v.clock) refuse('expired')
  const since = BigInt(v.clock - head.used) * 1_000_000_000n + BigInt(v.nanoseconds)
  if (!id && v.idle > 0 && since >= BigInt(v.idle) * 1_000_000_000n) refuse('idle')
  if (head.schema > v.schema) refuse('newer')
  const r = new Reader(body.subarray(41))
  const extensions = extensionsOf(r)
  const flashes = flashesOf(r)
  if (head.schema < v.schema || r.b[r.i] === 0xc0) undecodable()
  const data = session.read(r)
  if (r.i !== r.b.length) undecodable()
  return { ...head, extensions: extensions.toString('hex'), ...deviceIn(extensions), flashes, data }
}

function read(v) {
  const mode = v.mode === 'signed' || v.mode === 'sealed' ? 'cookie' : 'store'
  if (mode === 'cookie') {
    const token = v.mode === 'signed' ? tokenOf(v.value, 0x01, 81, Infinity) : tokenOf(v.value, 0x02, 89, Infinity)
    return sessionOf(authentic(token, v, mode) ?? refuse('forged'), v)
  }
  const token = tokenOf(v.value, 0x03, 79, 79)
  const cookie = authentic(token, v, mode) ?? refuse('forged')
  const id = createHash('sha256').update(cookie.subarray(10)).digest()
  const [created, expires] = [cookie.readUIntBE(0, 5), cookie.readUIntBE(5, 5)]
  if (expires <= v.clock) refuse('expired')
  if (v.mode === 'id') return { created, expires, id: id.toString('hex') }
  if (id.toString('hex') !== v.id) return refuse('unknown')
  const record = Buffer.from(v.record, 'hex')
  if (record.length === 6 && record[0] === 0x13) refuse(record.readUIntBE(1, 5) > v.clock ? 'replaced' : 'unknown')
  if (v.mode === 'record') {
    if (record.length < 45 || record[0] !== 0x11) undecodable()
    return sessionOf(record.subarray(1), v, v.id)
  }
  if (record.length < 89 || record[0] !== 0x12) undecodable()
  return sessionOf(authentic(record, v, mode, id) ?? undecodable(), v, v.id)
}

// ------------------------------------------------------------------ the check

const plain = (h) => Object.fromEntries(Object.entries(h).filter(([name, x]) =>
  name === 'created' || name === 'expires' || !(x === 0 || x?.length === 0)))

function check(v) {
  let result = 'ok', got
  try {
    got = plain(read(v))
  } catch (e) {
    if (!(e instanceof Refused)) throw e
    result = e.message
  }
  if (result !== v.result) return `got ${result}, want ${v.result}`
  if (result !== 'ok') return
  const wrote = got.used ?? got.created
  if (!isDeepStrictEqual(got, plain(v.holds))) return `got ${JSON.stringify(got)}, want ${JSON.stringify(v.holds)}`
  if (v.set_cookie) {
    const age = Math.min(got.expires - wrote, 34560000)
    const want = `${v.cookie}=${v.value}; Path=/; Max-Age=${age}; HttpOnly; Secure; SameSite=Lax`
    if (v.mode !== 'record' && v.mode !== 'sealed record' && v.set_cookie !== want) return `got ${v.set_cookie}, want ${want}`
    if (Buffer.byteLength(v.set_cookie) > 4096) return `a Set-Cookie of ${v.set_cookie.length} bytes`
  }
  if (v.record_expires) {
    const ends = [got.expires * 1000]
    if (v.idle) ends.push((got.used + v.idle) * 1000)
    const end = Math.min(...ends) // the second that it ends in: the fraction of the use is not in the record
    if (v.record_expires < end || v.record_expires > end + 999) return `got a record that ends at ${v.record_expires}, want ${end}`
  }
}

const here = dirname(fileURLToPath(import.meta.url))
let vectors = 0, wrong = 0
for (const file of readdirSync(here).filter((f) => f.endsWith('.json'))) {
  for (const v of JSON.parse(readFileSync(join(here, file), 'utf8')).vectors) {
    vectors++
    const problem = check(v)
    if (problem) {
      wrong++
      console.error(`${file}: ${v.name}: ${problem}`)
    }
  }
}
console.log(`${vectors} vectors, ${wrong} wrong`)
process.exit(vectors > 0 && wrong === 0 ? 0 : 1)
