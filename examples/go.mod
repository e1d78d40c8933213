module github.com/typedsessions/sessions/examples

go 1.26.0

require (
	github.com/typedsessions/sessions v0.0.0
	golang.org/x/crypto v0.58.0
)

replace github.com/typedsessions/sessions => ..
