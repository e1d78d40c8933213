package main

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// A screen shows lines and how far the run is: in a terminal as a bar below the lines,
// else as a line now and then.
type screen struct {
	mu   sync.Mutex
	out  io.Writer
	bars *mpb.Progress // nil: no terminal
	bar  *mpb.Bar
	end  chan struct{}
}

// show begins to show the progress of a run that begins now.
func (s *screen) show(d time.Duration, progress func() string) {
	s.end = make(chan struct{})
	every := 5 * time.Second
	if f, ok := s.out.(*os.File); ok && isTerminal(f) {
		every = time.Second / 2
		bars := mpb.New(mpb.WithOutput(f))
		s.bar = bars.AddBar(int64(d), mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return progress() })))
		s.mu.Lock()
		s.bars = bars
		s.mu.Unlock()
	}
	go func() {
		begun := time.Now()
		for tick := time.NewTicker(every); ; {
			select {
			case <-s.end:
				tick.Stop()
				return
			case <-tick.C:
			}
			if s.bar != nil {
				s.bar.SetCurrent(min(int64(time.Since(begun)), int64(d)-1))
			} else {
				_, _ = io.WriteString(s, progress()+"\n")
			}
		}
	}()
}

// hide removes the progress.
func (s *screen) hide() {
	close(s.end)
	s.mu.Lock()
	bars := s.bars
	s.bars = nil
	s.mu.Unlock()
	if bars != nil {
		s.bar.Abort(false)
		bars.Wait()
	}
}

// Write writes lines. It may be called by several goroutines.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bars != nil {
		return s.bars.Write(p) // above the bar
	}
	return s.out.Write(p)
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
