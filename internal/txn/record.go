package txn

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/wire"
)

// header returns the header of a body for a session.
func (e *Engine) header(l Life, now time.Time) wire.Header {
	return wire.Header{
		Created: l.Created, Used: now.Unix(), Expires: l.Expires, Lifetime: l.Lifetime,
		Schema: uint16(e.Codec.Version), Shape: e.Codec.Fingerprint,
	}
}

// madeHere reports whether data was written by this version of the program.
func (e *Engine) madeHere(h *wire.Header) bool {
	return int(h.Schema) == e.Codec.Version && h.Shape == e.Codec.Fingerprint
}

// body returns what is kept of a version, whose encoded data ends b and begins at
// start, but for the data, and b with the data: as they came, if nothing in them has
// changed, and else with the fields that this program does not know. It does not
// change b.
func (e *Engine) body(id ID, v *version, now time.Time, b []byte, start int) (body wire.Body, data []byte, err error) {
	body = wire.Body{Header: e.header(v.life, now), ID: id.half(), Extensions: v.entries, Flashes: v.flashes}
	switch f := &v.foreign; {
	case f.Data != nil:
		body.Schema, body.Shape = f.Schema, f.Shape
		return body, append(b[:start:start], f.Data...), nil
	case f.Unknown != nil:
		body.Shape = 0 // no program may trust it to have no other fields than its own
		data, err = e.Codec.Carry(b, start, f.Unknown)
		return body, data, err
	}
	return body, b, nil
}

// record returns what the Store keeps of a version, and the base that it makes.
func (e *Engine) record(id ID, v *version, now time.Time) (rec Record, base *Base, err error) {
	rec.Expires = e.recordEnd(v.life.Expires, now)
	rec.Owner, rec.Labels = v.owner, v.foreign.Labels
	body, data, err := e.body(id, v, now, v.encoded, 0)
	if err != nil {
		return rec, nil, err
	}
	base = &Base{Owner: v.owner, Header: body.Header, ID: id, Ends: rec.Expires.UnixMilli(), Kept: v.encoded, Flashes: v.flashes, Extensions: v.entries, Foreign: foreignOf(v.foreign)}
	body.Data = data
	if v.mark != nil {
		body.Extensions = wire.WithExtension(body.Extensions, wire.ReplacesTag, v.mark)
	}
	rec.Data = wire.NewRecord(e.sealer(), id[:], &body)
	return rec, base, nil
}

// replaced returns why a record is no session: it is a tombstone, before its end or
// after it. It returns NotNew for every other record.
func replaced(rec Record, now time.Time) Reason {
	switch end, ok := wire.ReadTombstone(rec.Data); {
	case !ok:
		return NotNew
	case end > now.Unix():
		return Replaced
	}
	return Unknown
}

// Read opens the record of an id and fills data, which is zero.
func (e *Engine) Read(id ID, rec Record, data any, now time.Time) (*Base, Reason, error) {
	base := &Base{ID: id, Version: rec.Version, Ends: rec.Expires.UnixMilli(), Owner: rec.Owner}
	if reason := replaced(rec, now); reason != NotNew {
		return base, reason, nil
	}
	body, err := wire.OpenRecord(e.sealer(), id[:], rec.Data)
	if err != nil {
		return base, Undecodable, err
	}
	base.Header = wire.ParseHeader(body)
	base.Foreign = foreignOf(Foreign{Labels: rec.Labels})
	switch {
	case wire.BodyID(body) != id.half():
		return base, Undecodable, errors.New("it is the record of another session")
	case base.Expires <= now.Unix():
		return base, Expired, nil
	}
	reason, err := e.readBody(base, body, data, e.Encrypt)
	return base, reason, err
}

// newBase returns a base for a body in a cookie. There is room for its extensions
// in the same allocation (BenchmarkBound of package dbsc).
func newBase(body []byte) *Base {
	const most = 48 // the extension of a device takes 41 with its tag and length
	if len(body) <= wire.HeaderSize || body[wire.HeaderSize] == 0 || body[wire.HeaderSize] > most {
		return new(Base)
	}
	with := new(struct {
		Base
		room [most]byte
	})
	with.Extensions = with.room[:0]
	return &with.Base
}

// readBody reads what follows the header, which base has already.
func (e *Engine) readBody(base *Base, body []byte, data any, authentic bool) (Reason, error) {
	if int(base.Schema) > e.Codec.Version {
		return Newer, fmt.Errorf("it has schema version %d, this program %d", base.Schema, e.Codec.Version)
	}
	b, err := wire.ReadBody(body)
	switch {
	case errors.Is(err, wire.ErrNewer):
		return Newer, err
	case err != nil:
		return Undecodable, err
	}
	base.Flashes = b.Flashes
	trusted := authentic && base.Shape == e.Codec.Fingerprint
	var unknown []byte
	if base.Kept, unknown, err = e.Codec.Decode(data, int(base.Schema), b.Data, trusted); err != nil {
		return Undecodable, err
	}
	known := base.Kept
	if unknown != nil {
		if known, err = e.Codec.Append(nil, data); err != nil {
			return Undecodable, err
		}
	}
	if err := e.Codec.Check(data, known); err != nil {
		return Invalid, err
	}
	base.Extensions = wire.AppendWithout(base.Extensions, b.Extensions, wire.ReplacesTag)
	if made := e.madeHere(&base.Header); unknown != nil || !made {
		f := base.foreign()
		f.Unknown = unknown
		if !made {
			f.Data, f.Schema, f.Shape = bytes.Clone(b.Data), base.Schema, base.Shape
		}
		base.Foreign = &f
	}
	if base.Owner, err = e.OwnerOf(data, base.Owner); err != nil {
		return Undecodable, err
	}
	base.Hash = e.Codec.Hash(data)
	return NotNew, nil
}

// secondsTo counts the whole seconds from now until then.
func secondsTo(then int64, now time.Time) int64 {
	left := then - now.Unix()
	if now.Nanosecond() > 0 {
		left--
	}
	return left
}

// dataCookie returns the Set-Cookie of a session. c holds the prefix of the
// value and the body, whose header is h.
func (e *Engine) dataCookie(signer *keys.Signer, c *keys.Scratch, h *wire.Header, now time.Time) (string, error) {
	start := 0
	if e.Encrypt {
		body := c.Buf[keys.PrefixSize:]
		start = len(c.Buf)
		c.Buf = signer.AppendSealed(append(c.Buf, c.Buf[:keys.PrefixSize]...), body, nil)
	} else {
		c.Buf = signer.AppendMAC(c, c.Buf)
	}
	line, err := e.Cookie.Line(&c.Buf, start, secondsTo(h.Expires, now), h.Lifetime != 0)
	if err != nil {
		return "", fmt.Errorf("%w: %v; keep less in the session, or set Config.Store", codec.ErrTooLarge, err)
	}
	return line, nil
}

// idCookie returns the Set-Cookie of an id.
func (e *Engine) idCookie(id *Identity, l Life, now time.Time) (string, error) {
	signer := e.Signer()
	c := signer.Scratch()
	defer signer.Put(c)
	b := wire.AppendTime(signer.AppendPrefix(c.Buf[:0], wire.SignedID), l.Created)
	ends := e.Cookie.Ends(l.Expires, now.Unix(), l.Lifetime != 0)
	c.Buf = signer.AppendMAC(c, append(wire.AppendTime(b, ends), id.Secret[:]...))
	return e.Cookie.Line(&c.Buf, 0, secondsTo(l.Expires, now), l.Lifetime != 0)
}

// readyID readies the cookie with the id.
func (t *Txn) readyID(id *Identity, l Life, now time.Time) error {
	line, err := t.eng.idCookie(id, l, now)
	if err == nil {
		t.cookie = line
	}
	return err
}

// cookieOf returns the Set-Cookie of a version that travels in it. Where there is
// no room for all messages, it drops the oldest.
func (t *Txn) cookieOf(v *version, c *change) (line string, h wire.Header, err error) {
	signer := t.eng.Signer()
	sc := signer.Scratch()
	defer signer.Put(sc)
	for {
		body := wire.Body{Header: t.eng.header(v.life, c.now), ID: c.id().half(), Extensions: v.entries, Flashes: v.flashes}
		head := signer.AppendPrefix(sc.Buf[:0], t.eng.Format())
		b := body.AppendHead(head)
		start := len(b)
		if b, err = t.eng.Codec.Encode(b, v.data); err == nil {
			body, b, err = t.eng.body(c.id(), v, c.now, b, start)
		}
		if h = body.Header; err != nil {
			return "", h, err
		}
		sc.Buf = b
		if !t.eng.madeHere(&h) {
			body.AppendHead(b[:len(head)]) // with the schema and the shape of the data
		}
		line, err = t.eng.dataCookie(signer, sc, &h, c.now)
		if len(v.flashes) == 0 || !errors.Is(err, codec.ErrTooLarge) {
			return line, h, err
		}
		v.flashes = v.flashes[1:]
		v.dropped++
	}
}

// seal stores a session in the cookie.
func (t *Txn) seal(c *change) error {
	v, err := t.own(c)
	if err != nil {
		return err
	}
	line, h, err := t.cookieOf(v, c)
	if err != nil {
		return err
	}
	if v.dropped > 0 && t.nothingIn(v) {
		return t.dropAll(c, v)
	}
	t.cookie = line
	t.settle(c, v, &Base{Header: h, ID: c.id(), Owner: v.owner, Flashes: v.flashes, Extensions: v.entries, Foreign: foreignOf(v.foreign)})
	return nil
}

// reissue renews a cookie that holds the session, with the time of its use.
func (t *Txn) reissue(base *Base, now time.Time) {
	signer := t.eng.Signer()
	c := signer.Scratch()
	defer signer.Put(c)
	c.Buf = append(signer.AppendPrefix(c.Buf[:0], t.eng.Format()), base.Kept...)
	wire.SetUsed(c.Buf[keys.PrefixSize:], now.Unix())
	line, err := t.eng.dataCookie(signer, c, &base.Header, now)
	if err != nil {
		t.event(Event{Kind: Failed, Err: err})
		return
	}
	t.cookie = line
	used := *base
	used.Used = now.Unix()
	t.eng.Watches.Renewed(used.ID, t.eng.stateOfBase(&used))
}

// dropAll notes that no message of a session without data has room in the cookie.
func (t *Txn) dropAll(c *change, v *version) error {
	t.event(droppedEvent(v))
	if c.base.kept() {
		t.spent(c)
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settleLocked(c.n)
	return nil
}
