// Package natsstore stores sessions in a key-value bucket of NATS JetStream. Use it if
// NATS is already part of your system.
//
//	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "sessions", LimitMarkerTTL: time.Hour})
//	store, err := natsstore.New(kv, natsstore.Options{Conn: conn})
//	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys, Store: store})
//
// # The bucket
//
// The bucket is for one application and its sessions only. [New] refuses it unless
//
//   - History is 1: earlier values of sessions, also of those that have ended, would stay.
//   - TTL is 0: it would end sessions, and remove the index entries of live ones.
//   - Its discard policy is new, as it is by default: when full, it would drop sessions.
//   - Its retention policy is limits, as it is by default: it would drop what a consumer has
//     read, or everything while there is none.
//   - Deletions are allowed, as they are by default.
//   - It is not a mirror of another bucket and has no sources.
//   - It has one replica, or allow_direct is false. By default any replica answers a read,
//     also one that is behind: a session that was just created would be missing, and one
//     that has ended would still be valid. KeyValueConfig cannot set allow_direct; the
//     README shows how to.
//
// LimitMarkerTTL (NATS Server 2.11) lets the server remove the markers that deletions
// leave. The store sets their life to one hour, whatever its value. Without it, only
// [Store.Sweep] removes them.
//
// # Keys
//
//	r.<id>           one record: version, expiry, owner, labels and data
//	o.<owner>.<id>   an entry of the index of owners, with an empty value
//	l.<label>.<id>   an entry of the index of labels, likewise
//	o.<owner>.last   written by Owned, to know when it has read all entries before it
//
// IDs, and the first half of the SHA-256 of owners and labels, are in unpadded base64url.
//
// # Implementation
//
// Version and expiry are part of the value, since a Touch changes the revision of a key
// and must keep the version. The expiry is compared with the clock of the process. Every
// write names the revision that it replaces, except a Delete with version 0, so that each
// operation is atomic:
//
//	Load    get         1 message to the server
//	Create  put         1
//	Update  put         1, or 2: get, put
//	Touch   get, put    2
//	Delete  purge       1, or with a version 2: get, purge
//
// An Update or Delete of a version takes one message if the process has just loaded or
// written the record: it remembers the revisions of the last thousand or so.
// A new owner and each new label take one message more, all at the same time and before
// the record is written. If the server refuses a put only because another process has
// touched the record, the operation is repeated. A write whose outcome is unknown is never
// repeated. The client sends a write again if no server was there to receive it.
//
// A write that is sent while the client connects again waits in its buffer. It may be
// carried out after the operation has returned an error. With [nats.ReconnectBufSize] of
// -1 the operation returns an error at once instead.
package natsstore
