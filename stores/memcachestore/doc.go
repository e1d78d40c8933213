// Package memcachestore stores sessions in memcached. Use it if memcached is
// already part of your system and users may be signed out without warning.
//
//	store := memcachestore.New(memcache.New("127.0.0.1:11211"), "shop:")
//	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys, Store: store})
//
// # Eviction and data loss
//
// memcached is a cache. When its memory is full, it evicts the items that were
// not used for the longest time, and each eviction signs a user out. Anyone who
// can make the application store items can thus sign other users out. A restart
// of memcached loses all sessions. A lost item does not come back, so a
// destroyed session stays destroyed.
//
// This holds for a fixed list of servers. The client selects the server by the
// key and the number of servers. If a server is added to the list and later
// removed, some sessions move to another server and back. Such a session then has
// the state from before the move, even if it was changed or destroyed meanwhile.
// Give all processes the same list in the same order, and restart all servers
// when the list changes. There is no fail-over: operations on the sessions of
// a server that is down return errors until it is back or removed from the list.
//
// A [Store] is not a [sessions.OwnerStore]. An index in memcached could lose
// entries, and the sessions of a revoked user would stay alive. For the same
// reason it is no [sessions.LabelStore], and it does not keep the labels of
// a record.
//
// # Configuring memcached
//
// Give memcached enough memory (-m, in MiB) for all live sessions. An item
// consists of the data, the owner, the key and 21 bytes. It must fit into the
// limit set by -I, by default 1 MiB; a larger one is [sessions.ErrTooLarge]. Do
// not use -M: when its memory is full, memcached then refuses writes instead of
// evicting, and signing out is a write. With -C, which disables cas, the store
// returns errors.
//
// Do not rely on the passwords of memcached. Let it listen on the loopback device
// or a private network only, and use Config.Encrypt if others can read there.
//
// # Implementation
//
// The version and the expiry, in milliseconds, are part of the value, and the
// expiry is compared with the clock of the application. memcached gets the expiry
// rounded up to seconds and uses it only to free memory. An expiry more than 30
// days ahead is a Unix time in the protocol: if the clock of memcached is ahead,
// the session ends earlier by as much. Every write is an add or a cas, so each
// operation is atomic. The client has no conditional delete. A Delete with
// a version therefore writes an expired record, which memcached removes after
// about a second.
//
//	Load    gets                                    1 command
//	Create  add; if a record expired: gets, cas     1 or 3
//	Update  gets, cas                               2
//	Touch   gets, cas                               2
//	Delete  delete; with a version: gets, cas       1 or 2
//
// If a cas fails only because another process touched the record, the operation
// is repeated, at most 100 times. A command whose outcome is unknown is never repeated.
package memcachestore
