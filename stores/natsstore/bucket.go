package natsstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// info returns the configuration and the state of the stream of the bucket.
func (s *Store) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	status, err := s.kv.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for its configuration: %w", err)
	}
	bucket, ok := status.(interface{ StreamInfo() *jetstream.StreamInfo })
	if !ok {
		return nil, fmt.Errorf("its status is a %T, need a bucket from package jetstream", status)
	}
	return bucket.StreamInfo(), nil
}

// check returns an error for each setting of a bucket with which sessions would be
// lost, stay, or come back.
func check(cfg jetstream.StreamConfig) error {
	var errs []error
	refuse := func(is bool, text string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(text, args...))
		}
	}
	refuse(cfg.MaxMsgsPerSubject != 1,
		"it keeps a history of %d values, also of sessions that have ended: set History to 1", cfg.MaxMsgsPerSubject)
	refuse(cfg.MaxAge != 0,
		"its TTL of %v would end sessions, and the index entries of live ones: set TTL to 0 and call Store.Sweep", cfg.MaxAge)
	refuse(cfg.Mirror != nil || len(cfg.Sources) > 0,
		"it copies other buckets, so that it may be behind: use the bucket that it copies")
	refuse(cfg.Discard != jetstream.DiscardNew,
		"when full it would drop sessions and index entries: set the discard policy of stream %s to new", cfg.Name)
	refuse(cfg.Retention != jetstream.LimitsPolicy,
		"it drops sessions for which no consumer waits: set the retention policy of stream %s to limits", cfg.Name)
	refuse(!cfg.AllowRollup || cfg.DenyPurge,
		"sessions cannot be deleted: set allow_rollup_hdrs to true and deny_purge to false in stream %s", cfg.Name)
	refuse(cfg.Replicas > 1 && cfg.AllowDirect,
		"with %d replicas a read may be answered by one that is behind, and a session that has ended would still be valid: set allow_direct to false in stream %s, and get the bucket again", cfg.Replicas, cfg.Name)
	return errors.Join(errs...)
}
