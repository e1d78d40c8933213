package sessions

import (
	"encoding/hex"

	"github.com/typedsessions/sessions/internal/inspect"
)

func init() {
	inspect.Open = openKeys
	inspect.Formats = []inspect.Format{
		{First: formatSigned, Least: leastSigned, Most: mostData},
		{First: formatSealed, Least: leastSealed, Most: mostData},
		{First: formatID, Least: idSize, Most: idSize},
	}
	inspect.Canonical = func(value string) ([]byte, bool) { return appendToken(nil, value) }
	inspect.Unverified = func(token []byte) inspect.Session {
		return inspected(token[prefixSize : len(token)-macSize])
	}
}

func openKeys(secrets string) ([]inspect.Key, error) {
	k, err := ParseKeyring(secrets)
	if err != nil {
		return nil, err
	}
	var keys []inspect.Key
	for _, secret := range k.ring().secrets {
		alone := &ring{secrets: []ringSecret{secret}} // so that it is known which one it was
		keys = append(keys, inspect.Key{ID: secret.id, Verify: alone.inspect})
	}
	return keys, nil
}

// inspect opens a token whose first byte and length are those of the format.
func (r *ring) inspect(f inspect.Format, name string, token []byte) (inspect.Session, bool) {
	verify := func(mode string) (body []byte, old, ok bool) {
		keys := newSigner(r, mode, name, f.First)
		return keys.verify(keys.scratch(), token)
	}
	switch f.First {
	case formatSigned:
		if body, _, ok := verify("cookie"); ok {
			return inspected(body), true
		}
	case formatSealed:
		if body, _, ok := newSigner(r, "cookie", name, f.First).open(nil, token, nil); ok {
			return inspected(body), true
		}
	case formatID:
		if body, _, ok := verify("store"); ok {
			id := hashOf([32]byte(body[10:]))
			return inspect.Session{Created: readTime(body), Expires: readTime(body[5:]), ID: id.String()}, true
		}
	}
	return inspect.Session{}, false
}

// inspected reads a body.
func inspected(body []byte) inspect.Session {
	h, id := parseHeader(body), bodyID(body)
	s := inspect.Session{
		Created: h.created, Used: h.used, Expires: h.expires, Lifetime: h.lifetime, Schema: h.schema,
		ID: hex.EncodeToString(id[:]), Content: body[headerSize:],
	}
	flashes, data, err := readFlashes(s.Content)
	for _, f := range flashes {
		s.Flashes = append(s.Flashes, [2]string{f.Kind, f.Message})
	}
	s.Data, s.Err = data, err
	return s
}
