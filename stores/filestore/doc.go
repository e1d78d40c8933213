// Package filestore keeps sessions in files of a folder: for one machine, where
// sessions must survive a restart and several processes may share them, and
// nothing else is to be run.
//
//	store, err := filestore.New("/var/lib/shop/sessions")
//	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys, Store: store})
//
// # Layout
//
//	records/ab/ab12…   one record; the name is its id, the folder the first byte of it
//	records/ab/lock    who holds its lock may write in the folder; it is always empty
//	records/ab/new     the record that is being written
//	owners/cd/cd34…/   the ids of an owner, by the SHA-256 of the name: an empty file each
//
// Folders have mode 0700, files 0600. Files of other names are ignored. A record
// that is a symbolic link, a folder or a device is refused with an error. The
// folders may be removed while the store is in use, which signs everybody out.
//
// # Crashes
//
// A record is written aside and renamed, so that readers, who take no lock, and
// a process that starts after a crash find the old record or the new one,
// whatever the byte at which the writer died. Its lock is released by the
// kernel, and what it left is replaced by the next write in the same folder, or
// removed by [Store.Sweep]. For what a power failure can take see [Store.Sync].
//
// # Limits
//
// Locks are flock's, which holds between the processes of one machine and that
// of a container's host, but not dependably over NFS or SMB: use a local folder
// and, for several machines, another store. Systems without flock, Windows among
// them, are refused by [New]; sqlstore with SQLite serves there.
package filestore
