// Stores is the shop of examples/login with its sessions in the store of your
// choice: Redis, PostgreSQL, MySQL, MariaDB, SQLite, memcached, or the files of
// a folder.
//
//	go run ./examples/stores -store redis://localhost:6379
//	go run ./examples/stores -store postgres://ada:secret@localhost/shop
//	go run ./examples/stores -store mysql://ada:secret@localhost/shop
//	go run ./examples/stores -store sqlite:shop.db
//	go run ./examples/stores -store memcache://localhost:11211
//
// Its other flags, such as -dbsc for sessions that are bound to their devices, are
// those of examples/login.
//
// It is a module of its own, because it requires the clients of all engines:
// the first build downloads and compiles them. An application needs the one
// client that it uses.
package main

import "github.com/typedsessions/sessions/examples/login/shop"

func main() { shop.Main("stores", storeNames, openStore) }
