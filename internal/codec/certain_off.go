//go:build sessions_slow

package codec

import "reflect"

// certainOf leaves every value to validator.
func certainOf(reflect.Type, bool) func(reflect.Value) bool { return nil }
