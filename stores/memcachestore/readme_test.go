package memcachestore_test

import (
	"testing"

	"github.com/typedsessions/sessions/internal/testreadme"
)

func TestREADMEShowsTheProgramThatIsCompiled(t *testing.T) { testreadme.ShowsExample(t) }
