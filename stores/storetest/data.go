package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/typedsessions/sessions"
)

// fullSize is the length of the longest data that Run stores without MaxData.
const fullSize = 1 << 20

// dataClauses are the clauses about the length of Record.Data.
func dataClauses(o options) []clause {
	most := min(o.maxData, fullSize)
	clauses := []clause{{"data may have any length up to " + size(most), func(s *subject) { s.keepsData(most) }}}
	if o.limited {
		clauses = append(clauses, clause{"data of more than " + size(o.maxData) + " is refused and what was stored stays", func(s *subject) { s.refusesData(o.maxData) }})
	}
	return clauses
}

func size(n int) string {
	if n == fullSize {
		return "1 MiB"
	}
	return fmt.Sprintf("%d bytes", n)
}

// pattern returns n bytes that do not repeat in any short period.
func pattern(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	return data
}

// keepsData stores records with data of all kinds of lengths up to most.
func (s *subject) keepsData(most int) {
	data := pattern(most)
	lengths := []int{1, 255, 256, 1023, 4096, 8191, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 18, most - 1, most}
	lengths = slices.DeleteFunc(lengths, func(n int) bool { return n > most })
	for i, n := range lengths {
		rec := recordFor(time.Hour, string(data[:n]), "ada")
		id := idOf(i)
		version := s.create(id, rec)
		s.holds(id, version, rec)
		rec.Data = data[len(data)-n:]
		version = s.update(id, version, rec)
		s.touch(id, rec.Expires)
		s.holds(id, version, rec)
		version = s.update(id, version, recordFor(time.Hour, "short", "ada"))
		s.delete(id, version)
	}
}

// refusesData checks that data above the limit is not stored, or is stored as
// a whole if it is at most twice as long.
func (s *subject) refusesData(limit int) {
	refused := func(what string, n int, err error) bool {
		s.Helper()
		switch {
		case err == nil && n > 2*limit:
			s.Errorf("%s with %d bytes of data: got no error, want one above a limit of %d bytes", what, n, limit)
		case err != nil && !unexpected(err):
			s.Errorf("%s with %d bytes of data: got %v, want an error that tells that the data is too large", what, n, err)
		}
		return err != nil
	}
	for i, n := range []int{limit + 1, 2*limit + 1} {
		ada, bob := fmt.Sprint("ada ", n), fmt.Sprint("bob ", n)
		large := sessions.Record{Data: pattern(n), Expires: time.Now().Add(2 * time.Hour), Owner: bob}
		id, rec := idOf(2*i), recordFor(time.Hour, "data", "")
		version, err := s.Create(s.ctx, id, large)
		if refused("Create", n, err) {
			s.absent(id)
			version = s.create(id, rec)
			s.holds(id, version, rec)
		} else {
			s.holds(id, version, large)
		}

		id, rec.Owner = idOf(2*i+1), ada
		version = s.create(id, rec)
		large.Version = version
		next, err := s.Update(s.ctx, id, large)
		if !refused("Update", n, err) {
			s.holds(id, next, large)
			continue
		}
		s.holds(id, version, rec)
		if is[sessions.OwnerStore](s.Store) {
			s.lists(ada, id)
			s.lists(bob)
		}
		s.holds(id, s.update(id, version, rec), rec)
	}
}
