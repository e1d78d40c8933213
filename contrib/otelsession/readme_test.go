package otelsession_test

import (
	"testing"

	"github.com/typedsessions/sessions/internal/testreadme"
)

func TestProgramOfTheReadmeIsTheExample(t *testing.T) { testreadme.ShowsExample(t) }
