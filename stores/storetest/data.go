package storetest

import (
	"slices"
	"time"
)

// dataClauses are the clauses about the length of Record.Data.
var dataClauses = []clause{
	{"data may have any length up to 1 MiB", func(s *subject) { s.keepsData(1 << 20) }},
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
