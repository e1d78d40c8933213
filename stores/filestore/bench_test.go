package filestore_test

import (
	"crypto/rand"
	"encoding/binary"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// benchData has the size of a shop's session: some numbers, a name and a cart.
var benchData = make([]byte, 200)

func randomID() (id sessions.ID) {
	_, _ = rand.Read(id[:])
	return id
}

func BenchmarkLoad(b *testing.B) {
	s, id := open(b, b.TempDir()), randomID()
	create(b, s, id, recordFor(time.Hour, string(benchData), "ada"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Load(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	for _, sync := range []bool{false, true} {
		b.Run(map[bool]string{false: "async", true: "sync"}[sync], func(b *testing.B) {
			s := open(b, b.TempDir())
			s.Sync = sync
			b.ReportAllocs()
			for b.Loop() {
				create(b, s, randomID(), recordFor(time.Hour, string(benchData), ""))
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, sync := range []bool{false, true} {
		b.Run(map[bool]string{false: "async", true: "sync"}[sync], func(b *testing.B) {
			s, id := open(b, b.TempDir()), randomID()
			s.Sync = sync
			rec := recordFor(time.Hour, string(benchData), "ada")
			rec.Version = create(b, s, id, rec)
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if rec.Version, err = s.Update(b.Context(), id, rec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTouch(b *testing.B) {
	s, id := open(b, b.TempDir()), randomID()
	end := time.Now().Add(time.Hour)
	create(b, s, id, recordFor(time.Hour, string(benchData), "ada"))
	b.ReportAllocs()
	for b.Loop() {
		end = end.Add(time.Second)
		if err := s.Touch(b.Context(), id, end); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSize reports the disk space, as counted by the file system, of
// a session of 200 bytes: without an owner and labels, with an owner of its own,
// and with a label of its own. Run it with -benchtime 1x.
func BenchmarkSize(b *testing.B) {
	const n = 2000
	for name, mark := range map[string]func(rec *sessions.Record, own string){
		"anonymous": func(*sessions.Record, string) {},
		"owned":     func(rec *sessions.Record, own string) { rec.Owner = own },
		"labelled":  func(rec *sessions.Record, own string) { rec.Labels = []string{own} },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				s := open(b, dir)
				for shard := range 256 { // create the folders, whose size is not counted
					id := randomID()
					id[0] = byte(shard)
					version := create(b, s, id, recordFor(time.Hour, "", ""))
					_ = s.Delete(b.Context(), id, version)
				}
				bytes, files := usage(b, dir)
				for i := range n {
					rec := recordFor(time.Hour, string(benchData), "")
					mark(&rec, string(binary.BigEndian.AppendUint32(nil, uint32(i))))
					create(b, s, randomID(), rec)
				}
				moreBytes, moreFiles := usage(b, dir)
				b.ReportMetric(float64(moreBytes-bytes)/n, "B/session")
				b.ReportMetric(float64(moreFiles-files)/n, "inodes/session")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func usage(b *testing.B, dir string) (bytes int64, files int) {
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512 // stat(2): st_blocks
		files++
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes, files
}
