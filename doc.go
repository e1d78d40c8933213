// Package sessions keeps the session of a web application as one of its own
// structs.
package sessions
