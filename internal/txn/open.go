package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/typedsessions/sessions/internal/codec"
	"github.com/typedsessions/sessions/internal/cookie"
	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/wire"
)

// Found is what the values of a request's cookies name, with a Store.
type Found struct {
	named  []named // all authentic ones
	one    [1]named
	reason Reason // why there is no record
	record Record
	of     *named // that record is of, nil if there is none
}

// named is an id in an authentic cookie.
type named struct {
	Identity
	created, expires int64
	oldKey           bool
	asked            bool // the store was asked for it
}

// all returns every session that the cookies name.
func (f *Found) all() (all []doomed) {
	if f == nil {
		return nil
	}
	for i := range f.named {
		d := doomed{id: f.named[i].ID}
		if f.of == &f.named[i] {
			d.version, d.owner = f.record.Version, f.record.Owner
		}
		all = append(all, d)
	}
	return all
}

// Find verifies the values of cookies and loads the record of the id that was
// created last. It asks the Store for another only if that does not know the
// first.
func (e *Engine) Find(ctx context.Context, values []string) (*Found, error) {
	signer := e.Signer()
	f := &Found{reason: Forged}
	f.named = f.one[:0]
	c := signer.Scratch()
	for _, value := range values {
		f.add(signer, c, value)
	}
	signer.Put(c)
	if len(f.named) == 0 {
		return f, nil
	}
	ctx, cancel := e.Limit(ctx)
	defer cancel()
	now := time.Now()
	for n := f.next(); n != nil; n = f.next() {
		n.asked = true
		if n.expires <= now.Unix() {
			if f.reason == Forged {
				f.reason = Expired
			}
			continue
		}
		rec, err := e.Store.Load(ctx, n.ID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return f, &StoreError{"load", n.ID, err}
		}
		reason := Unknown
		if err == nil {
			reason = replaced(rec, now)
		}
		if reason == NotNew {
			f.reason, f.of, f.record = NotNew, n, rec
			break
		}
		if f.reason != Replaced {
			f.reason = reason
		}
	}
	return f, nil
}

// add adds the id in a value if that is authentic.
func (f *Found) add(signer *keys.Signer, c *keys.Scratch, value string) {
	var ok bool
	if c.Buf, ok = wire.AppendToken(c.Buf[:0], value); !ok {
		return
	}
	body, old, ok := signer.Verify(c, c.Buf)
	if !ok {
		return
	}
	n := named{Identity: identityOf([32]byte(body[10:])), created: wire.Time(body), expires: wire.Time(body[5:]), oldKey: old}
	for i := range f.named {
		if same := &f.named[i]; same.ID == n.ID { // re-issued under another key, or with another end
			same.expires = max(same.expires, n.expires)
			same.oldKey = same.oldKey && old
			return
		}
	}
	f.named = append(f.named, n)
}

// next returns the id that was created last of those that the store was not
// asked for yet, nil if there is none. Of equals it is the first: browsers send
// the cookie with the longest path first.
func (f *Found) next() (best *named) {
	for i := range f.named {
		if n := &f.named[i]; !n.asked && (best == nil || n.created > best.created) {
			best = n
		}
	}
	return best
}

// An Importer returns the data of another library's session, and whether there
// is one.
type Importer func() (data any, ok bool)

// Open fills t with the session of a request: the one that its cookies hold or
// name, or a new one. values are those of its cookies, without a Store. importer
// may be nil. The gate is held, and data is zero.
func (t *Txn) Open(e *Engine, req Request, shared *Shared, session any, values []string, importer Importer) {
	t.eng, t.req, t.shared, t.session = e, req, shared, session
	t.base = e.None
	var err error
	switch {
	case !t.shared.HadCookie:
		t.reason = NoCookie
	case e.Store != nil:
		err = t.openRecord(t.shared.Found)
	default:
		err = t.openCookie(values)
	}
	if t.reason == NotNew {
		t.exists = Loaded
		if len(t.base.Flashes) > 0 {
			t.rareLocked().came = t.base.Flashes
		}
		if int(t.base.Schema) < e.Codec.Version {
			t.eventLocked(Event{Kind: Upgraded, Err: fmt.Errorf("from schema version %d to %d", t.base.Schema, e.Codec.Version)})
		}
		return
	}
	if t.reason == NoCookie {
		if importer != nil {
			t.adopt(importer)
		}
		return
	}
	t.eventLocked(Event{Kind: Refused, Reason: t.reason, Err: err})
	if err != nil {
		codec.Clear(t.data()) // a decoder may have filled half of it
	}
	// The id is left to what was refused: a newer program may read it.
	t.base, t.id, t.began = e.None, nil, 0
	if t.reason == Replaced {
		t.exists = Behind
	}
}

func (t *Txn) openRecord(f *Found) error {
	if len(f.named) > 1 {
		t.eventLocked(Event{Kind: Ambiguous})
	}
	if t.reason = f.reason; f.of == nil {
		if len(f.named) > 0 {
			t.id = &f.named[0].Identity
		}
		return nil
	}
	t.id = &f.of.Identity
	now := time.Now()
	base, reason, err := t.eng.Read(t.id.ID, f.record, t.data(), now)
	if t.reason = reason; reason == NotNew {
		n := f.of
		issued := max(n.created, n.expires-cookie.MaxAge)
		t.oldCookie = n.oldKey || n.expires < base.Expires && pastHalf(issued, n.expires, now)
		t.base, t.began = base, now.UnixNano()
	}
	return err
}

// openCookie verifies and decodes the session in the cookie: of several that are
// authentic, the one that was used last.
func (t *Txn) openCookie(values []string) error {
	e := t.eng
	signer := e.Signer()
	t.reason = Forged
	var best wire.Header
	var body []byte
	oldKey, ambiguous, now := false, false, time.Now()
	c := signer.Scratch()
	defer signer.Put(c)
	for _, value := range values {
		b, old, ok := e.openToken(signer, c, value)
		if !ok {
			continue
		}
		h := wire.ParseHeader(b)
		reason := e.over(&h, now)
		if body != nil {
			ambiguous = true
			if reason != NotNew || t.reason == NotNew && h.Used <= best.Used {
				continue
			}
		}
		t.reason, best, body, oldKey = reason, h, b, old
		if len(values) > 1 {
			body = bytes.Clone(body) // the next one is opened in its place
		}
	}
	if ambiguous {
		t.eventLocked(Event{Kind: Ambiguous})
	}
	if t.reason == Forged {
		return nil
	}
	base := newBase(body)
	ends := e.Cookie.Ends(best.Expires, best.Used, best.Lifetime != 0)
	base.Header = best
	half := wire.BodyID(body)
	copy(base.ID[:], half[:])
	t.base, t.began = base, now.UnixNano()
	t.oldCookie = oldKey || ends < best.Expires && pastHalf(best.Used, ends, now)
	if t.reason != NotNew {
		return nil
	}
	reason, err := e.readBody(base, body, t.data(), true)
	base.Kept = nil // a part of c
	if t.reason = reason; reason == NotNew && (e.Idle > 0 || t.oldCookie) {
		base.Kept = bytes.Clone(body) // it may be re-issued
	}
	return err
}

// pastHalf reports whether half of a time in seconds since 1970 has passed.
func pastHalf(begin, end int64, now time.Time) bool { return now.Unix()-begin >= (end-begin)/2 }

// openToken returns the body in a cookie's value if that is authentic. It is
// a part of c.
func (e *Engine) openToken(signer *keys.Signer, c *keys.Scratch, value string) (body []byte, old, ok bool) {
	if c.Buf, ok = wire.AppendToken(c.Buf[:0], value); !ok {
		return nil, false, false
	}
	if !e.Encrypt {
		return signer.Verify(c, c.Buf)
	}
	c.Buf = slices.Grow(c.Buf, len(c.Buf)) // the body stands behind the token
	return signer.Open(c.Buf, c.Buf, nil)
}

// over returns why a session in a cookie is over, NotNew if it is not.
func (e *Engine) over(h *wire.Header, now time.Time) Reason {
	switch {
	case h.Expires <= now.Unix():
		return Expired
	case e.Idle > 0 && now.Sub(time.Unix(h.Used, 0)) >= e.Idle:
		return IdleTooLong
	}
	return NotNew
}

// adopt makes a new session of what Config.Import gives.
func (t *Txn) adopt(importer Importer) {
	var data any
	ok, err := false, error(nil)
	func() {
		defer codec.Caught(&err, "Config.Import")
		data, ok = importer()
	}()
	if err != nil {
		t.eventLocked(Event{Kind: Refused, Reason: Undecodable, Err: err})
		return
	}
	if !ok {
		return
	}
	if t.eng.Codec.IsZero(data) { // Import knew nothing in it: the other library's session stays
		return
	}
	if _, err := t.eng.Codec.Encode(nil, data); err != nil {
		reason := Undecodable
		if errors.Is(err, codec.ErrInvalid) {
			reason = Invalid
		}
		t.eventLocked(Event{Kind: Refused, Reason: reason, Err: fmt.Errorf("imported session: %w", err)})
		return
	}
	codec.Set(t.data(), data)
	t.journal.Append(Op{Verb: Import}, nil)
	t.reason = Imported
}
