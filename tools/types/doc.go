// Package types runs New on field types of other modules, at pinned versions, and
// keeps its verdicts in testdata/verdicts.md. It is a module outside the workspace:
// what these modules require is not to choose the versions of the others.
//
//	go test ./... -write    makes the table anew
package types
