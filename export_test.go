package sessions

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/base64"
	"time"

	"github.com/typedsessions/sessions/internal/keys"
	"github.com/typedsessions/sessions/internal/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// SealingKey returns the AEAD that seals the one message whose nonce begins with
// n, under a key of 32 bytes, for the published vectors of XAES-256-GCM.
func SealingKey(key, n []byte) cipher.AEAD { return keys.MessageAEAD(key, n) }

// Padded returns the value of an authentic cookie whose data are a field that T
// does not have, of n bytes, and so a value longer than any that we send.
func (m *Manager[T]) Padded(n int) string { return m.core.padded(n) }

func (m *core) padded(n int) string {
	now := time.Now().Unix()
	h := wire.Header{Created: now, Used: now, Expires: now + 3600, Shape: m.engine.Codec.Fingerprint}
	data, err := msgpack.Marshal(map[string]string{"unknown": string(bytes.Repeat([]byte("x"), n))})
	if err != nil {
		panic(err)
	}
	signer := m.engine.Signer()
	body := wire.Body{Header: h, Data: data}
	b := signer.AppendMAC(signer.Scratch(), body.Append(signer.AppendPrefix(nil, wire.Signed)))
	return base64.RawURLEncoding.EncodeToString(b)
}

// Opened reports whether the session of a request has been asked for.
func Opened(ctx context.Context) bool { return around(ctx).txn.Load() != nil }
