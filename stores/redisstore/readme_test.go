package redisstore_test

import (
	"testing"

	"github.com/typedsessions/sessions/internal/testreadme"
)

func TestREADMEShowsTheProgramThatIsCompiled(t *testing.T) {
	testreadme.ShowsExample(t, "// It has no output to check: it needs a Redis at localhost:6379.")
}
