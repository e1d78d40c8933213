package codec

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/go-playground/validator/v10"
)

// Check validates data, whose encoding is b. What is stored as T{}, a visitor of
// whom nothing is known, is always valid, also with an empty map in place of nil.
func (c *Codec) Check(data any, b []byte) error {
	if bytes.Equal(b, c.zero) {
		return nil
	}
	err := c.validated(data)
	if err == nil || c.Hash(data) != c.zeroHash {
		return err
	}
	if c.shape.IsMsgp() { // its methods may store what the hash does not see
		again, failed := c.Append(nil, data)
		if failed != nil || !bytes.Equal(again, c.zero) {
			return err
		}
	}
	return nil
}

func (c *Codec) validated(data any) (err error) {
	defer Caught(&err, "validation")
	if c.tags != nil && (c.certain == nil || !c.certain(value(data))) {
		if err := c.tags.Struct(data); err != nil {
			return invalid(err)
		}
	}
	if c.validate != nil {
		if err := c.validate(data); err != nil {
			return fmt.Errorf("%w: Config.Validate: %w", ErrInvalid, err)
		}
	}
	return nil
}

// invalid turns validator's error into one that names fields and rules and
// shows no value. Keys of maps are values too.
func invalid(err error) error {
	var fields validator.ValidationErrors
	if !errors.As(err, &fields) {
		return fmt.Errorf("%w: validator: %T", ErrInvalid, err)
	}
	var broken []string
	for _, f := range fields {
		rule := f.Tag()
		if f.Param() != "" {
			rule += "=" + f.Param()
		}
		broken = append(broken, fmt.Sprintf("%s breaks the rule %s", pathOf(f), rule))
	}
	return fmt.Errorf("%w: %s", ErrInvalid, strings.Join(broken, ", "))
}

// pathOf is the path to a field in Go's names. From the first index on, the
// namespace holds keys of maps, in which anything may stand, so that only the
// field at its end can be told.
func pathOf(f validator.FieldError) string {
	path, _, indexed := strings.Cut(f.StructNamespace(), "[")
	if !indexed {
		return path
	}
	path += "[]"
	// That of an element ends with a bracket, and may be cut at its beginning.
	if last := f.StructField(); !strings.ContainsAny(last, "[]") {
		path += "." + last
	}
	return path
}
