package main

import (
	"testing"

	"github.com/typedsessions/sessions/examples/internal/demotest"
)

func TestProgram(t *testing.T) { demotest.Run(t, demotest.HTTP(newHandler)) }
