// Package memcachestore keeps sessions in memcached, for where it runs already
// and where users may be signed out without warning.
//
//	store := memcachestore.New(memcache.New("127.0.0.1:11211"), "shop:")
//	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys, Store: store})
//
// # What memcached forgets
//
// memcached is a cache. When its memory is full, it evicts what was not used for
// the longest time, and each eviction signs somebody out; who can make it store
// things can so sign out others. A restart loses all sessions. Nothing that was
// forgotten comes back by itself, so that a session that was destroyed stays
// destroyed.
//
// It holds for one list of servers: the client picks the server by the key and
// by the number of servers. A session that has moved to another server and back,
// because a server was added to the list and taken out again, is as it was
// before, even if it was changed or destroyed meanwhile. So give all processes
// the same list in the same order, and restart all servers when it changes.
// There is no fail-over: the sessions of a server that is down are errors until
// it is back, or out of the list.
//
// There is no index of owners, since one that forgets would leave sessions of a
// revoked user alive: a [Store] is no [sessions.OwnerStore].
//
// # What the operator sets
//
// Memory (-m, in MiB) for all sessions that live at once. An item, which is the
// data with 21 bytes, the owner and the key, must fit -I, 1 MiB unless set;
// beyond it the error is [sessions.ErrTooLarge]. With -C, which turns cas off,
// the store returns errors. With -M memcached answers with
// an error instead of evicting. It has no passwords worth the name: let it
// listen on the loopback device or a private network only, and use
// Config.Encrypt if others can read there.
//
// # How it is done
//
// The version and the expiry, to the millisecond, are inside of the value and
// judged by the application's clock. memcached gets the expiry rounded up to
// seconds, and only frees memory by it. Every write is an add or a cas, so that
// each operation is atomic. A Delete at a version leaves a record that has
// expired for about a second, since memcached has no delete that compares.
//
//	Load    gets                                  1 command
//	Create  add; on an expired record gets, cas   1 or 3
//	Update  gets, cas                             2
//	Touch   gets, cas                             2
//	Delete  delete; of a version gets, cas        1 or 2
//
// A cas that fails only because the record was touched meanwhile is repeated.
// Nothing is repeated whose outcome is unknown.
package memcachestore
