package natsstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
)

// A term is the beginning of the keys of an index: it stands for an owner or
// a label. An entry of the index is a key with an empty value, which consists of
// a term and an id.
//
// An entry is written before the record that has the term, so that the index never
// misses a live record. A reader of an entry checks the record. An entry is removed
// by Sweep, once there is no record with the id; until then it may be out of date.
// Hence a record has an entry for each of its terms, and an Update must write
// entries for new terms only.
type term string

const (
	ownerPrefix = "o."
	labelPrefix = "l."
)

// newTerm hashes a name, since a key cannot contain all bytes. The record has the
// name itself, so that a collision does no harm.
func newTerm(prefix, name string) term {
	hash := sha256.Sum256([]byte(name))
	return term(prefix + idEncoding.EncodeToString(hash[:16]) + ".")
}

func ownerTerm(owner string) term { return newTerm(ownerPrefix, owner) }
func labelTerm(label string) term { return newTerm(labelPrefix, label) }

func (x term) entry(id sessions.ID) string { return string(x) + idEncoding.EncodeToString(id[:]) }

// terms returns the terms of a record.
func terms(rec sessions.Record) []term {
	all := make([]term, 0, 1+len(rec.Labels))
	if rec.Owner != "" {
		all = append(all, ownerTerm(rec.Owner))
	}
	for _, label := range rec.Labels {
		all = append(all, labelTerm(label))
	}
	return all
}

func without(all, others []term) []term {
	return slices.DeleteFunc(all, func(x term) bool { return slices.Contains(others, x) })
}

// grace is the age at which Sweep may remove an entry that has no record: the
// record may be about to be written. It is longer than an operation lasts and than
// clocks differ.
var grace = time.Hour

// index writes the entries of id for these terms, all at the same time.
func (s *Store) index(ctx context.Context, id sessions.ID, terms []term) error {
	return each(len(terms), func(i int) error {
		if err := s.addEntry(ctx, terms[i].entry(id)); err != nil {
			return fmt.Errorf("write the index: %w", err)
		}
		return nil
	})
}

// addEntry makes sure that there is an entry that Sweep does not remove for a while.
// It does not write an entry of a live record again, since a list that is being read
// has the entries that were there when it began.
func (s *Store) addEntry(ctx context.Context, key string) error {
	_, err := s.put(ctx, key, nil, 0)
	for err == errMoved {
		var entry jetstream.KeyValueEntry
		entry, err = s.kv.Get(ctx, key)
		switch {
		case err == nil && time.Since(entry.Created()) < grace/2:
			return nil
		case err == nil:
			_, err = s.put(ctx, key, nil, entry.Revision())
		case errors.Is(err, jetstream.ErrKeyNotFound):
			_, err = s.putOverMarker(ctx, key, nil)
		}
	}
	return err
}

// Owned implements [sessions.OwnerStore]. It writes a key of its own to know when it
// has read all entries, creates a consumer to read them, and loads the records that
// they name, some at the same time.
func (s *Store) Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error] {
	if owner == "" {
		return func(func(sessions.ID, error) bool) {} // of nobody, and not indexed
	}
	return s.list(ctx, "list the sessions of an owner", ownerTerm(owner), func(rec sessions.Record) bool {
		return rec.Owner == owner
	})
}

// Labelled implements [sessions.LabelStore], as Owned does.
func (s *Store) Labelled(ctx context.Context, label string) iter.Seq2[sessions.ID, error] {
	return s.list(ctx, "list the sessions with a label", labelTerm(label), func(rec sessions.Record) bool {
		return slices.Contains(rec.Labels, label)
	})
}

// parallelLoads is how many records list loads at the same time.
const parallelLoads = 32

// list yields the ids of the index of x whose records belong to it.
func (s *Store) list(ctx context.Context, what string, x term, belongs func(sessions.Record) bool) iter.Seq2[sessions.ID, error] {
	return func(yield func(sessions.ID, error) bool) {
		fail := func(err error) {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			yield(sessions.ID{}, fmt.Errorf("natsstore: %s: %w", what, err))
		}
		ids, err := s.entries(ctx, x)
		if err != nil {
			fail(err)
			return
		}
		var live [parallelLoads]bool
		for page := range slices.Chunk(ids, parallelLoads) {
			err := each(len(page), func(i int) error {
				op, end := s.begin(ctx)
				defer end()
				found, err := s.live(op, page[i])
				live[i] = err == nil && belongs(found.Record)
				if err == sessions.ErrNotFound {
					return nil
				}
				return cause(op, err)
			})
			if err != nil {
				fail(err)
				return
			}
			for i, id := range page {
				if live[i] && !yield(id, nil) {
					return
				}
			}
		}
	}
}

// lastEntry ends the key that entries writes, in place of an id.
const lastEntry = "last"

// entries returns the ids of the entries of x. A list of keys does not tell when it
// has them all: the replica that sends it may be behind. So entries writes a key
// of x, which comes after all entries that were there before.
func (s *Store) entries(ctx context.Context, x term) ([]sessions.ID, error) {
	ctx, end := s.begin(ctx)
	defer end()
	last, err := s.kv.Put(ctx, string(x)+lastEntry, nil)
	if isFull(err) && s.api != nil {
		ids, err := s.api.entries(ctx, x)
		return ids, cause(ctx, err)
	}
	if err != nil {
		return nil, cause(ctx, err)
	}
	var ids []sessions.ID
	err = s.read(ctx, string(x)+"*", func(entry jetstream.KeyValueEntry) (more bool) {
		if entry == nil {
			return true
		}
		id, ok := parseID(strings.TrimPrefix(entry.Key(), string(x)))
		if ok && entry.Operation() == jetstream.KeyValuePut {
			ids = append(ids, id)
		}
		return entry.Revision() < last
	}, jetstream.MetaOnly())
	return ids, err
}

// read calls f with the present value of each key that matches a pattern, in the
// order of revisions, then with nil, and then with each new value, until f returns
// false.
func (s *Store) read(ctx context.Context, keys string, f func(jetstream.KeyValueEntry) (more bool), opts ...jetstream.WatchOpt) error {
	updates, end, err := s.watch(ctx, keys, opts...)
	if err != nil {
		return err
	}
	defer end()
	for {
		select {
		case entry, ok := <-updates:
			if !ok {
				return errors.New("the server has ended the list")
			}
			if !f(entry) {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// cause returns err, or the reason for which ctx is done if that is so.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// each calls f for 0 to n-1 at the same time and returns an error of theirs.
func each(n int, f func(i int) error) error {
	if n == 0 {
		return nil
	}
	errs := make(chan error, n)
	for i := 1; i < n; i++ {
		go func() { errs <- f(i) }()
	}
	err := f(0)
	for range n - 1 {
		if other := <-errs; err == nil {
			err = other
		}
	}
	return err
}
