package sessions_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// Poisoned stores: whoever can write to a store without Encrypt can write
// sessions, but he cannot take the process down with them.

// allocated is what the process has allocated so far, in bytes. Unlike
// runtime.ReadMemStats it does not stop the world; it may miss the last small
// objects, and sees every large one.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// poisonLimit is what a record of n bytes may cost: what the package promises,
// and what the request around it takes, this harness included.
func poisonLimit(n int) uint64 { return uint64(1<<20 + 64*n + 256<<10) }

// TestPoisonOfEveryTypeAndLengthCostsLittle puts each of the 256 first bytes of
// msgpack, with lengths from none to 4 GiB and with some bytes behind it or
// none, wherever a record can hold a value.
func TestPoisonOfEveryTypeAndLengthCostsLittle(t *testing.T) {
	s := planted(t, sessions.Config[fullHouse]{}, fullHouse{N: 1}, -1, nil)
	id := s.one()
	head := bytes.Clone(s.store.records[id].Data[:recordHeader])
	head[1+shapeInABody] ^= 0xff // of another shape, so that everything is checked
	name := func(n string) string { return string(rune(0xa0+len(n))) + n }
	places := []string{"\x90", "", "\x92\xa1k", "\x90\x81", "\x90\x82\xa1N\x01\xa1x"} // as data, flashes, a flash, a key, an unknown field
	for _, field := range []string{"N", "U8", "I", "B", "S", "M", "At", "P", "F", "Ints"} {
		places = append(places, "\x90\x81"+latin1(name(field)))
	}
	places = append(places, "\x90\x81\xa1I\x91", "\x90\x81\xa1M\x81\xa1k", "\x90\x81\xa1M\x81", "\x90\x81\xa1P\x81\xa1X", "\x90\x81\xa1P\x81\xa1X\x91")
	lengths := []string{"", "\x00", "\x10", "\xff\xff", "\x00\x0f\x42\x40", "\xff\xff\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff"}
	cases, opened := 0, 0
	for first := range 256 {
		for _, place := range places {
			for _, length := range lengths {
				for _, tail := range []string{"", "\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0\xc0"} {
					if len(length) > 2 && tail != "" {
						continue
					}
					data := append(bytes.Clone(head), place+string([]byte{byte(first)})+length+tail...)
					cases++
					if poison(t, s, id, data) == sessions.ReasonNone {
						opened++
					}
				}
			}
		}
	}
	t.Logf("%d records, of which %d are sound", cases, opened)
}

// latin1 writes one byte for each rune.
func latin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// poison loads data as the record of the only session, and changes the session
// if it opens.
func poison(t *testing.T, s *typedSite[fullHouse], id sessions.ID, data []byte) (reason sessions.Reason) {
	t.Helper()
	s.store.put(id, sessions.Record{Data: data, Expires: time.Now().Add(time.Hour)})
	s.events.reset() // it would grow
	before := allocated()
	res := s.do(func(x *sessions.Session[fullHouse]) { reason = x.Reason() })
	cost := allocated() - before
	if res.StatusCode != http.StatusOK || len(res.Header["Set-Cookie"]) > 0 || (reason != sessions.ReasonNone && reason != sessions.ReasonUndecodable) {
		t.Errorf("got %d, %q and the cookies %q for %.80x, want a session or none, and no cookie", res.StatusCode, reason, res.Header["Set-Cookie"], data[recordHeader:])
	}
	if limit := poisonLimit(len(data)); cost > limit {
		t.Errorf("got %d bytes allocated for %d of %.80x, want at most %d", cost, len(data), data[recordHeader:], limit)
	}
	return reason
}

func TestPoisonNestedMillionsDeepCostsLittle(t *testing.T) {
	s := planted(t, sessions.Config[fullHouse]{}, fullHouse{N: 1}, -1, nil)
	id := s.one()
	head := s.store.records[id].Data[:recordHeader]
	for place, start := range map[string]string{
		"in an unknown field": "\x90\x81\xa1x", "as the data": "\x90", "as the flashes": "", "in a slice": "\x90\x81\xa1I", "in a map": "\x90\x81\xa1M",
		"in a struct": "\x90\x81\xa1P", "in a time": "\x90\x81\xa2At", "in bytes": "\x90\x81\xa1B", "as a key": "\x90\x81",
	} {
		t.Run(place, func(t *testing.T) {
			for _, layer := range []string{"\x91", "\x81\xa1x", "\x81", "\xdc\x00\x01", "\xdd\x00\x00\x00\x01", "\xde\x00\x01\xa1x", "\xdf\x00\x00\x00\x01\xa1x", "\xc7\x01\x05"} {
				data := append(bytes.Clone(head), start+strings.Repeat(layer, 1_000_000)+"\x00"...)
				if poison(t, s, id, data) == sessions.ReasonNone {
					t.Errorf("a million times %x: got a session, want none", layer)
				}
			}
		})
	}
}

// TestPoisonInTimesAndVersionsBreaksNothing takes the numbers of a record to
// their ends: those in the header, and those that the Store itself returns.
func TestPoisonInTimesAndVersionsBreaksNothing(t *testing.T) {
	verbs := map[string]func(*session){
		"read":         func(*session) {},
		"edit":         func(s *session) { s.Data.N++ },
		"Update":       func(s *session) { s.Update(func(d *AppSession) { d.N++ }) },
		"RegenerateID": (*session).RegenerateID,
		"SetLifetime":  func(s *session) { s.SetLifetime(math.MaxInt64) },
		"a long look":  func(s *session) { _, _ = s.CreatedAt().String(), s.ExpiresAt().String() },
		"Destroy":      (*session).Destroy,
	}
	const end = 1<<40 - 1
	for name, do := range verbs {
		t.Run(name, func(t *testing.T) {
			for _, idle := range []time.Duration{0, time.Millisecond, 300 * time.Hour} {
				for _, times := range [][3]int64{{0, 0, end}, {end, end, end}, {end, 0, end}, {0, end, time.Now().Unix() + 60}} {
					for _, lifetime := range []uint32{0, 1, math.MaxUint32} {
						for _, rec := range []sessions.Record{
							{Version: 0, Expires: time.Time{}, Owner: "\r\n\x00"},
							{Version: math.MaxUint64, Expires: time.Unix(math.MaxInt64/2, 0)},
							{Version: 1, Expires: time.Unix(math.MinInt64/2, 0), Owner: strings.Repeat("x", 1<<20)},
							{Version: 1, Expires: time.UnixMilli(math.MaxInt64)},
						} {
							rec.Data = append(recordHead(0), "\x90\x82\xa3uid\x2a\xa1n\x01"...)
							body := rec.Data[1:]
							for i, at := range times {
								copy(body[5*i:], appendSeconds(nil, at))
							}
							binary.BigEndian.PutUint32(body[15:], lifetime)
							s := newSite(t, modes[2], func(c *config) {
								c.IdleTimeout, c.Lifetime = idle, 300*time.Hour
								c.Store = &wrongStore{Store: c.Store, answer: rec}
							})
							b := s.browser()
							b.cookies["__Host-Http-session"] = fuzzWire(3, nil).value()
							res := b.do(do)
							if res.StatusCode != 200 {
								t.Errorf("times %v, lifetime %d, %v: got status %d, want 200", times, lifetime, rec, res.StatusCode)
							}
							for _, c := range res.Cookies() {
								if c.MaxAge > 400*24*60*60 || c.MaxAge == 0 {
									t.Errorf("times %v, lifetime %d, %v: got Max-Age=%d, want 1 to 34560000, or an expired cookie", times, lifetime, rec, c.MaxAge)
								}
							}
						}
					}
				}
			}
		})
	}
}

// A wrongStore answers every Load with the same record, and stores whatever it
// is asked to, at no place.
type wrongStore struct {
	sessions.Store
	answer sessions.Record
}

func (w *wrongStore) Load(context.Context, sessions.ID) (sessions.Record, error) {
	return w.answer, nil
}
func (w *wrongStore) Update(context.Context, sessions.ID, sessions.Record) (uint64, error) {
	return w.answer.Version + 1, nil
}
func (w *wrongStore) Touch(context.Context, sessions.ID, time.Time) error { return nil }
func (w *wrongStore) Delete(context.Context, sessions.ID, uint64) error   { return nil }

// A record of the right kind may still be of the wrong session, the wrong length
// or the wrong program: docs say what each gives.
func TestPoisonedRecordIsLeftAlone(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"another session's":   func(b []byte) []byte { b[26] ^= 1; return b },
		"a newer version's":   func(b []byte) []byte { binary.BigEndian.PutUint16(b[1+schemaInABody:], 9); return b },
		"of an unknown kind":  func(b []byte) []byte { b[0] = 0x13; return b },
		"cut within its data": func(b []byte) []byte { return b[:len(b)-1] },
		"nothing":             func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			store := newPlainStore()
			s := newSite(t, mode{store: func() sessions.Store { return store }}, nil)
			b := s.browser()
			b.do(func(s *session) { s.Data.UserID = 42 })
			id := s.store.live()[0]
			rec := store.records[id]
			rec.Data = spoil(bytes.Clone(rec.Data))
			store.put(id, rec)
			want := fmt.Sprintf("%x", rec.Data)
			var now string
			b.do(func(s *session) {
				if s.Data.UserID != 0 || !s.IsNew() {
					t.Errorf("got user %d (%q), want a new session", s.Data.UserID, s.Reason())
				}
				s.Data.UserID, now = 7, s.ID()
			})
			if got := fmt.Sprintf("%x", store.records[id].Data); got != want || now == id.String() || len(store.records) != 2 {
				t.Errorf("got the record %s beside %d others, want it as it was: a newer program may read it", got, len(store.records)-1)
			}
		})
	}
}
