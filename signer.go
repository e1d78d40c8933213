package sessions

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/typedsessions/sessions/internal/keys"
)

// A Keyring signs and seals sessions with the newest of its secrets and accepts
// those made with any of them, so that a secret can be replaced without signing
// anybody out. It is safe for concurrent use, also with Replace; its copies are
// the same ring. It prints the ids of its keys, never a secret.
//
// One ring may serve any number of Managers. Each derives keys of its own from
// it, by the mode and the cookie's name, and refuses a value that was made for
// another. Give each Manager a Config.Cookie.Name of its own: T is not part of
// a key, and two of the same name and mode take each other's cookies for their
// own, even if one is for administrators and the other for everybody.
type Keyring struct {
	current *atomic.Pointer[keys.Ring] // one step away, so that no copy of a Keyring can print it
}

// NewKeyring makes a ring of secrets, the newest first, such as [NewSecret]
// returns. It copies them. It refuses fewer than one or more than 16, one of
// fewer than 32 bytes, one that is plainly not random, and the same twice.
func NewKeyring(secrets ...[]byte) (*Keyring, error) {
	r, err := keys.NewRing(secrets)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	k := &Keyring{current: new(atomic.Pointer[keys.Ring])}
	k.current.Store(r)
	return k, nil
}

// ParseKeyring makes a ring of a comma-separated list of secrets in base64, the
// newest first, as fits an environment variable; "openssl rand -base64 32" prints
// one. Both alphabets of base64 are understood, padded or not, with blanks
// around the commas. Its errors are those of [NewKeyring]; none shows a secret.
func ParseKeyring(s string) (*Keyring, error) {
	secrets, err := keys.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	return NewKeyring(secrets...)
}

// Replace puts new secrets in the place of the old ones, the newest first, for
// every Manager that uses the ring, from the next request on. If it returns an
// error (see [NewKeyring]) the old ones stay in force.
//
// To introduce a secret where several processes share sessions, first add it
// behind the current one everywhere, then move it to the front, and drop the old
// one after Config.Lifetime, or the longest that SetLifetime gave.
func (k *Keyring) Replace(secrets ...[]byte) error {
	if k == nil || k.current == nil {
		return errors.New("sessions: Replace of a Keyring that NewKeyring did not make")
	}
	r, err := keys.NewRing(secrets)
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	k.current.Store(r)
	return nil
}

// NewSecret returns 32 bytes from crypto/rand.
func NewSecret() []byte {
	secret := make([]byte, keys.SecretSize)
	_, _ = rand.Read(secret) // never fails: it ends the process instead
	return secret
}

func (k Keyring) ring() *keys.Ring {
	if k.current == nil {
		return nil
	}
	return k.current.Load()
}

func (k Keyring) summary() string {
	r := k.ring()
	if r == nil {
		return "Keyring(empty)"
	}
	var ids []string
	for _, id := range r.IDs() {
		ids = append(ids, hex.EncodeToString(id[:]))
	}
	return fmt.Sprintf("Keyring(%s)", strings.Join(ids, " "))
}

// Format prints the ids of the keys, newest first, under every verb.
func (k Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.summary()) }

// LogValue logs the ids of the keys.
func (k Keyring) LogValue() slog.Value { return slog.StringValue(k.summary()) }

// MarshalText, for JSON, gives the ids of the keys.
func (k Keyring) MarshalText() ([]byte, error) { return []byte(k.summary()), nil }
