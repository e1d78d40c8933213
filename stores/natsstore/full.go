package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/typedsessions/sessions"
)

// noSpace are the codes of the errors with which the server refuses a write because of the
// limits of the account, of the storage of the server, and of the bucket.
var noSpace = []jetstream.ErrorCode{10002, 10023, 10077}

func isFull(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && slices.Contains(noSpace, refused.ErrorCode)
}

// An api removes and lists keys by requests to the API of JetStream, which write nothing. A bucket with several
// replicas that is full refuses each write, also the marker of a deletion and the key that
// a list writes, and so does a server or account whose storage is used up. Users must be able
// to sign out all the same, sessions to be revoked, and Sweep to free space.
type api struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	subject string // of keys: their beginning
}

// apiOf returns the api of a bucket by conn, or nil if conn reaches another bucket by
// that name: it may be in another domain of JetStream.
func apiOf(ctx context.Context, conn *nats.Conn, kv jetstream.KeyValue, bucket *jetstream.StreamInfo) *api {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil
	}
	stream, err := js.Stream(ctx, bucket.Config.Name)
	if err != nil || !stream.CachedInfo().Created.Equal(bucket.Created) {
		return nil
	}
	return &api{js, stream, "$KV." + kv.Bucket() + "."}
}

// remove removes a key without a marker: that revision of it, or errMoved, or any if the
// revision is 0.
func (a *api) remove(ctx context.Context, key string, revision uint64) error {
	request := jetstream.StreamPurgeRequest{Subject: a.subject + key}
	if revision > 0 {
		request.Sequence = revision + 1 // the first one to keep
	}
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	msg, err := a.js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.PURGE."+a.stream.CachedInfo().Config.Name, b)
	if err != nil {
		return err
	}
	var answer struct {
		Error  *jetstream.APIError `json:"error"`
		Purged uint64              `json:"purged"`
	}
	switch err := json.Unmarshal(msg.Data, &answer); {
	case err != nil:
		return fmt.Errorf("purge %s: %w", key, err)
	case answer.Error != nil:
		return answer.Error
	case revision > 0 && answer.Purged == 0:
		return errMoved
	}
	return nil
}

// mark tries to write the marker of a key that remove has removed, for the readers of changes.
// There may be space for it now.
func (a *api) mark(ctx context.Context, key string, life time.Duration) {
	marker := nats.NewMsg(a.subject + key)
	marker.Header.Set("KV-Operation", "PURGE")
	opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(0)} // unless there is a new record
	if life > 0 {
		opts = append(opts, jetstream.WithMsgTTL(life))
	}
	_, _ = a.js.PublishMsg(ctx, marker, opts...)
}

// entries returns the ids of the entries of x, also of those that were removed.
func (a *api) entries(ctx context.Context, x term) (ids []sessions.ID, err error) {
	of := a.subject + string(x)
	info, err := a.stream.Info(ctx, jetstream.WithSubjectFilter(of+"*"))
	if err != nil {
		return nil, err
	}
	for subject := range info.State.Subjects {
		if id, ok := parseID(strings.TrimPrefix(subject, of)); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
