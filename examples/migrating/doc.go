// Package migrating has the tests of docs/MIGRATING.md itself. The folders hold the
// programs of the document, each with tests against the library that it migrates
// from.
package migrating
