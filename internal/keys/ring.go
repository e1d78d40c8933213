// Package keys signs and seals bytes with keys derived from a ring of secrets,
// and verifies and opens what any key of the ring has made. It knows nothing of
// sessions.
package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Limits of a ring.
const (
	SecretSize = 32 // the least, in bytes; HMAC-SHA-256 and AES-256 keys are derived from it
	maxSecrets = 16
	minVariety = 8 // different byte values in a secret: random ones have about 30
)

// hint ends the errors of a secret that is none.
const hint = `NewSecret or "openssl rand -base64 32" makes one`

// A Ring holds secrets, the newest first. It is immutable and safe for
// concurrent use.
type Ring struct {
	secrets []secret
}

type secret struct {
	id  ID
	prk []byte // HKDF-Extract of the secret, which itself is not kept
}

// An ID names a secret. It tells a verifier which keys to try, so that the cost
// of a forged value does not grow with the ring. It is not secret.
type ID [4]byte

// NewRing makes a ring of secrets, the newest first. Its errors name the secret
// by its place and show no secret.
func NewRing(secrets [][]byte) (*Ring, error) {
	if len(secrets) == 0 {
		return nil, errors.New("a key ring needs at least one secret; NewSecret makes one")
	}
	if len(secrets) > maxSecrets {
		return nil, fmt.Errorf("a key ring of %d secrets, need at most %d; drop the oldest", len(secrets), maxSecrets)
	}
	r := &Ring{}
	for i, s := range secrets {
		if len(s) < SecretSize {
			return nil, fmt.Errorf("secret %d has %d bytes, need at least %d; %s", i+1, len(s), SecretSize, hint)
		}
		var seen [256]bool
		variety := 0
		for _, c := range s {
			if !seen[c] {
				seen[c] = true
				variety++
			}
		}
		if variety < minVariety {
			return nil, fmt.Errorf("secret %d has only %d different bytes, a random one has more; %s", i+1, variety, hint)
		}
		for j := range i {
			if bytes.Equal(s, secrets[j]) {
				return nil, fmt.Errorf("secrets %d and %d are the same", j+1, i+1)
			}
		}
		prk, err := hkdf.Extract(sha256.New, s, nil)
		if err != nil {
			return nil, fmt.Errorf("secret %d: %v", i+1, err)
		}
		r.secrets = append(r.secrets, secret{id: ID(expand(prk, "key id", len(ID{}))), prk: prk})
	}
	return r, nil
}

// Parse reads a comma-separated list of secrets in base64, in either alphabet,
// padded or not, with blanks around the commas. Its errors show no secret.
func Parse(list string) ([][]byte, error) {
	if strings.TrimSpace(list) == "" {
		return nil, errors.New("the list of secrets is empty; " + hint)
	}
	var secrets [][]byte
	for i, part := range strings.Split(list, ",") {
		if part = strings.TrimRight(strings.TrimSpace(part), "="); part == "" {
			return nil, fmt.Errorf("secret %d of the list is empty; remove the comma beside it, or put a secret there: %s", i+1, hint)
		}
		part = strings.NewReplacer("-", "+", "_", "/").Replace(part)
		s, err := base64.RawStdEncoding.DecodeString(part)
		if err != nil || strings.ContainsAny(part, "\r\n") {
			return nil, fmt.Errorf("secret %d of the list is not base64; %s", i+1, hint)
		}
		secrets = append(secrets, s)
	}
	return secrets, nil
}

// IDs returns the ids of the secrets, the newest first.
func (r *Ring) IDs() []ID {
	ids := make([]ID, len(r.secrets))
	for i, s := range r.secrets {
		ids[i] = s.id
	}
	return ids
}

// Only returns a ring with the i-th secret alone.
func (r *Ring) Only(i int) *Ring { return &Ring{secrets: r.secrets[i : i+1]} }

// expand derives a key for one purpose (RFC 5869). Its errors are those of
// lengths that no caller asks for.
func expand(prk []byte, info string, length int) []byte {
	key, err := hkdf.Expand(sha256.New, prk, "typedsessions v1\x00"+info, length)
	if err != nil {
		panic(err)
	}
	return key
}
