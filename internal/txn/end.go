package txn

import (
	"context"
	"errors"
	"time"

	"github.com/typedsessions/sessions/internal/wire"
)

// end ends what Destroy and Reset doomed, and then expires the cookie: if that
// fails, users must see that they are still signed in.
func (t *Txn) end(ctx context.Context, r Reach) error {
	t.mu.Lock()
	ending, n := t.journal.Ending(), t.journal.first+1
	var all []doomed
	if ending {
		all = t.rare.doomed
	}
	t.mu.Unlock()
	switch {
	case !ending:
		return nil
	case t.eng.Store == nil && r == Gone:
		return &lateError{what: LateEnd}
	}
	for _, d := range all {
		gone, err := t.eng.finish(ctx, d)
		if err != nil {
			return err
		}
		if gone == NotNew {
			t.tellEnd(d)
		}
	}
	t.mu.Lock()
	t.rare.doomed = t.rare.doomed[len(all):]
	t.journal.Settle(n)
	t.mu.Unlock()
	t.expireCookie()
	t.endFormer = t.shared.HadCookie
	t.endImports = true
	return nil
}

func (t *Txn) expireCookie() {
	t.cookie = ""
	if t.shared.HadCookie {
		t.cookie = t.eng.Cookie.Expire()
	}
}

// tellEnd queues the event of a session that has ended.
func (t *Txn) tellEnd(d doomed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tellLocked(Event{Kind: Finished, Reason: d.reason, Owner: d.owner}, d.id, ID{})
}

// finish ends a session, whatever its version is now. It returns NotNew if this call
// did, and else why the session was gone. A tombstone stays. It waits for no turn: the
// others would only change what is to end.
func (e *Engine) finish(ctx context.Context, d doomed) (gone Reason, err error) {
	done := e.Ending(d.id, d.reason)
	defer func() { done(err == nil && gone == NotNew) }()
	if e.Store == nil {
		return NotNew, nil // its cookie expires
	}
	id, version := d.id, d.version
	for began, try := time.Now(), 0; ; try++ {
		if version == 0 {
			rec, err := e.Store.Newest(ctx, id)
			switch {
			case errors.Is(err, ErrNotFound):
				return Unknown, nil
			case err != nil:
				return NotNew, &StoreError{"destroy", id, err}
			}
			if gone := replaced(rec, time.Now()); gone != NotNew {
				return gone, nil
			}
			version = rec.Version
		}
		err := e.Store.Delete(ctx, id, version)
		switch {
		case err == nil:
			return NotNew, nil
		case errors.Is(err, ErrNotFound):
			return Unknown, nil
		case !errors.Is(err, ErrConflict):
			return NotNew, &StoreError{"destroy", id, err}
		}
		version = 0
		if err := BackOff(ctx, try, began); err != nil {
			return NotNew, &StoreError{"destroy", id, err}
		}
	}
}

// spend ends a session of which nothing is left.
func (t *Txn) spend(ctx context.Context, c *change) error {
	if c.facts.Stored {
		ended, err := t.spendRecord(ctx, c)
		if err != nil {
			return err
		}
		if !ended {
			return nil // what another request has stored is kept
		}
	}
	t.spent(c)
	return nil
}

// spendRecord deletes the record, unless another request has put something into
// it.
func (t *Txn) spendRecord(ctx context.Context, c *change) (ended bool, err error) {
	id, expected := c.base.ID, c.base.Version
	tries := t.eng.Try(id)
	defer tries.End()
	done := t.eng.Ending(id, Spent)
	defer func() { done(ended) }()
	for {
		err := t.eng.Store.Delete(ctx, id, expected)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, ErrNotFound):
			return false, t.vanished(c, err)
		case !errors.Is(err, ErrConflict):
			return false, &StoreError{"delete", id, err}
		}
		if err := tries.again(ctx); err != nil {
			return false, &StoreError{"delete", id, err}
		}
		if c.mine, err = t.eng.Codec.Encode(nil, t.data()); err != nil {
			return false, err
		}
		v, version, err := t.rebase(ctx, c, &tries)
		if err != nil {
			return false, err
		}
		if expected = version; t.nothingIn(v) {
			continue
		}
		tries.End() // replace has its own
		base, v, err := t.replace(ctx, c, v, expected)
		if err == nil {
			t.settle(c, v, base)
		}
		return false, err
	}
}

// spent notes that a session of which nothing is left has ended. What the request
// puts into it from now on begins another one.
func (t *Txn) spent(c *change) {
	t.expireCookie()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.journal.Ending() { // since the commit began
		return
	}
	t.tellLocked(Event{Kind: Finished, Reason: Spent, Owner: c.base.Owner}, c.base.ID, ID{})
	t.eng.Watches.Ended(c.base.ID, causes[Spent])
	t.settleLocked(c.n)
	t.restartLocked()
}

// restartLocked makes the session one that is kept nowhere.
func (t *Txn) restartLocked() {
	if t.id != nil && t.id.ID == t.base.ID { // else it has been drawn, and shown, for what comes now
		t.id = nil
	}
	t.base, t.exists, t.reason, t.began = t.eng.None, Fresh, Spent, 0
}

// touch notes the use of an unchanged session, or asks whether it exists. With
// Cookie it makes the cookie anew. What fails is an event, unless somebody asks.
func (t *Txn) touch(ctx context.Context, c *change) error {
	base := c.base
	if ends := max(base.Ends, t.eng.recordEnd(base.Expires, c.now).UnixMilli()); c.facts.Due && ends != base.Ends {
		err := t.eng.Store.Touch(ctx, base.ID, time.UnixMilli(ends))
		t.noteUse(base, ends) // also if that failed: once in a request is enough
		switch {
		case errors.Is(err, ErrNotFound):
			return t.lose(Unknown, err)
		case err != nil:
			t.event(Event{Kind: Failed, Err: &StoreError{"touch", base.ID, err}})
			return nil
		}
	}
	if c.action.Cookie || c.facts.Proof {
		return t.ask(ctx, c)
	}
	return nil
}

// noteUse notes that the record ends later, unless Destroy or Reset came in between.
func (t *Txn) noteUse(base *Base, ends int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.base.ID == base.ID {
		used := *t.base
		used.Ends = ends
		t.base = &used
	}
}

// ask finds out whether a session still exists. A cookie that is made anew ends
// when the session does now: a parallel SetLifetime may have changed that.
func (t *Txn) ask(ctx context.Context, c *change) error {
	rec, err := t.eng.Store.Newest(ctx, c.base.ID)
	life := lifeOf(&c.base.Header)
	switch _, reason := t.eng.gone(c.base.ID, rec, err, c.now, &life); {
	case reason != NotNew:
		return t.lose(reason, ErrNotFound)
	case err != nil && c.facts.Proof:
		return &StoreError{"load", c.base.ID, err}
	case err != nil:
		t.event(Event{Kind: Failed, Err: &StoreError{"load", c.base.ID, err}})
		return nil
	case c.action.Cookie:
		t.mu.Lock()
		t.oldCookie = false
		t.mu.Unlock()
		return t.readyID(c.identity, life, c.now)
	}
	return nil
}

// gone returns why a session does not exist any more, by what a Load returned,
// NotNew if it may exist. Of a record that can be opened it returns the body, and
// changes life to that in it.
func (e *Engine) gone(id ID, rec Record, err error, now time.Time, life *Life) (body []byte, _ Reason) {
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, Unknown
	case err != nil:
		return nil, NotNew
	}
	if reason := replaced(rec, now); reason != NotNew {
		return nil, reason
	}
	if body, err = wire.OpenRecord(e.sealer(), id[:], rec.Data); err == nil {
		h := wire.ParseHeader(body)
		*life = lifeOf(&h)
	}
	if life.Expires <= now.Unix() {
		return nil, Expired
	}
	return body, NotNew
}
