// Package migrating holds the programs of docs/MIGRATING.md, each with tests
// against the library that it migrates from. The root has the tests of the
// document itself.
package migrating
