// Package filestore stores sessions as files in a folder. Use it on a single
// machine when sessions must survive a restart, or when several processes share
// them, and you do not want to run a server.
//
//	store, err := filestore.New("/var/lib/shop/sessions")
//	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys, Store: store})
//
// # Layout
//
//	records/ab/ab12…   one record; the file is named by its id, the folder by the id's first byte
//	records/ab/lock    an empty file; a writer of this folder holds a lock on it
//	records/ab/new     the record that is being written
//	owners/cd/cd34…/   the ids of one owner, an empty file each; named by the SHA-256 of the owner
//	labels/ef/ef56…/   the ids of one label, likewise
//
// Folders have mode 0700, files 0600. Files with other names are ignored. A
// symbolic link, folder or device in the place of a record is an error. The
// folders may be removed while the store is in use; all users are then signed
// out.
//
// # Crashes
//
// A record is written to a temporary file, which is then renamed. If the writing
// process dies, at any byte, other processes find either the old record or the
// new one. They take no lock to read it. The kernel releases the lock of the dead
// process. Its temporary file is replaced by the next write in the same folder or
// removed by [Store.Sweep]. [Store.Sync] documents what a power failure can lose.
//
// # Limits
//
// The locks are those of flock. They hold between the processes of one machine,
// including a container and its host, but not reliably over NFS or SMB. Use a
// local folder, and another store for several machines. [New] refuses systems
// without flock, such as Windows; use sqlstore with SQLite there.
//
// A record with its owner and labels may take up to 16 MiB; a larger one is
// [sessions.ErrTooLarge].
package filestore
