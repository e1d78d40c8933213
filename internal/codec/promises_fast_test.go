//go:build !sessions_slow

package codec

import "testing"

func TestABasketTakesBothFastPaths(t *testing.T) {
	if c := basketCodec(t); c.direct == nil || c.certain == nil {
		t.Errorf("direct: %v, certain: %v", c.direct != nil, c.certain != nil)
	}
}
