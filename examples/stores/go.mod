module github.com/typedsessions/sessions/examples/stores

go 1.26.0

require (
	github.com/bradfitz/gomemcache v0.0.0-20260422231931-4d751bb6e37c
	github.com/go-sql-driver/mysql v1.10.1
	github.com/jackc/pgx/v5 v5.12.0
	github.com/redis/rueidis v1.0.79
	github.com/typedsessions/sessions v0.0.0
	github.com/typedsessions/sessions/examples v0.0.0
	github.com/typedsessions/sessions/stores/memcachestore v0.0.0
	github.com/typedsessions/sessions/stores/redisstore v0.0.0
	github.com/typedsessions/sessions/stores/sqlstore v0.0.0
	modernc.org/sqlite v1.62.0
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/gabriel-vasile/mimetype v1.4.16 // indirect
	github.com/go-playground/locales v0.14.2 // indirect
	github.com/go-playground/universal-translator v0.18.2 // indirect
	github.com/go-playground/validator/v10 v10.30.6 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/leodido/go-urn v1.5.0 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/typedsessions/sessions/stores/filestore v0.0.0 // indirect
	github.com/vmihailenco/msgpack/v5 v5.4.1 // indirect
	github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	modernc.org/libc v1.80.1 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
)

replace (
	github.com/typedsessions/sessions => ../..
	github.com/typedsessions/sessions/examples => ..
	github.com/typedsessions/sessions/stores/filestore => ../../stores/filestore
	github.com/typedsessions/sessions/stores/memcachestore => ../../stores/memcachestore
	github.com/typedsessions/sessions/stores/redisstore => ../../stores/redisstore
	github.com/typedsessions/sessions/stores/sqlstore => ../../stores/sqlstore
	github.com/typedsessions/sessions/stores/storetest => ../../stores/storetest
)
