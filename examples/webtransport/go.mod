module github.com/typedsessions/sessions/examples/webtransport

go 1.26.0

replace github.com/typedsessions/sessions => ../..

require (
	github.com/quic-go/quic-go v0.64.1 // v0.65.0 changed HTTPStreamer, with which webtransport-go v0.13.0 does not compile
	github.com/quic-go/webtransport-go v0.13.0
	github.com/typedsessions/sessions v0.0.0
)

require (
	github.com/dunglas/httpsfv v1.1.1 // indirect
	github.com/gabriel-vasile/mimetype v1.4.16 // indirect
	github.com/go-playground/locales v0.14.2 // indirect
	github.com/go-playground/universal-translator v0.18.2 // indirect
	github.com/go-playground/validator/v10 v10.30.6 // indirect
	github.com/leodido/go-urn v1.5.0 // indirect
	github.com/quic-go/qpack v0.6.0 // indirect
	github.com/vmihailenco/msgpack/v5 v5.4.1 // indirect
	github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
