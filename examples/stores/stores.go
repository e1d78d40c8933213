package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/rueidis"
	_ "modernc.org/sqlite"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/examples/login/shop"
	"github.com/typedsessions/sessions/stores/memcachestore"
	"github.com/typedsessions/sessions/stores/redisstore"
	"github.com/typedsessions/sessions/stores/sqlstore"
)

const storeNames = "redis://HOST:PORT, postgres://USER:PASSWORD@HOST/DATABASE, " +
	"mysql://USER:PASSWORD@HOST/DATABASE, sqlite:FILE, memcache://HOST:PORT, " + shop.StoreNames

// errNoURL takes the place of the errors of url.Parse, which contain the
// password.
var errNoURL = errors.New("-store is not a URL, need one like redis://localhost:6379")

// openStore returns the store that the flag -store names. A store whose engine
// does not remove expired sessions is swept until ctx is done.
func openStore(ctx context.Context, name string) (sessions.Store, error) {
	scheme, rest, _ := strings.Cut(name, ":")
	switch scheme {
	case "cookie", "memory", "file":
		return shop.OpenStore(ctx, name)
	case "redis", "rediss":
		option, err := rueidis.ParseURL(name)
		if err != nil {
			return nil, errNoURL
		}
		option.DisableRetry = true
		client, err := rueidis.NewClient(option)
		if err != nil {
			return nil, fmt.Errorf("-store: %w", err)
		}
		context.AfterFunc(ctx, client.Close)
		return redisstore.New(client, redisstore.Options{}), nil
	case "postgres", "postgresql":
		return openSQL(ctx, "pgx", name, sqlstore.PostgreSQL)
	case "mysql":
		dsn, err := mysqlDSN(name)
		if err != nil {
			return nil, err
		}
		return openSQL(ctx, "mysql", dsn, sqlstore.MySQL)
	case "sqlite":
		return openSQL(ctx, "sqlite", "file:"+rest+"?_pragma=busy_timeout(5000)&_pragma=synchronous(NORMAL)", sqlstore.SQLite)
	case "memcache":
		u, err := url.Parse(name)
		if err != nil {
			return nil, errNoURL
		}
		return memcachestore.New(memcache.New(u.Host), "login:"), nil
	}
	return nil, fmt.Errorf("-store %q is not known, need %s", scheme, storeNames)
}

func openSQL(ctx context.Context, driver, dsn string, dialect sqlstore.Dialect) (sessions.Store, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, fmt.Errorf("-store: %w", err)
	}
	store, err := sqlstore.New(db, dialect, sqlstore.Options{Table: "login_sessions"})
	if err != nil {
		return nil, fmt.Errorf("-store: %w", err)
	}
	if err := store.Migrate(ctx); err != nil {
		return nil, fmt.Errorf("-store: %w", err)
	}
	go shop.Sweep(ctx, store)
	return store, nil
}

// mysqlDSN returns the data source name of the driver for a URL. The query of
// the URL holds options of the driver, such as tls=true.
func mysqlDSN(name string) (string, error) {
	u, err := url.Parse(name)
	if err != nil {
		return "", errNoURL
	}
	config, err := mysql.ParseDSN("/?" + u.RawQuery)
	if err != nil {
		return "", fmt.Errorf("-store: %w", err)
	}
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.Net = "tcp"
	config.Addr = cmp.Or(u.Host, "localhost:3306")
	config.DBName = strings.TrimPrefix(u.Path, "/")
	config.ClientFoundRows = true
	return config.FormatDSN(), nil
}
