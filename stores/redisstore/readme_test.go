package redisstore_test

import (
	"testing"

	"github.com/typedsessions/sessions/internal/testreadme"
)

func TestREADMEShowsTheProgramThatIsCompiled(t *testing.T) {
	testreadme.ShowsExample(t, "// The example has no output to check, since it needs a Redis at localhost:6379.")
}
