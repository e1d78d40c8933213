package types

import (
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/mail"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"cloud.google.com/go/civil"
	"github.com/Rhymond/go-money"
	aarondl "github.com/aarondl/null/v8"
	"github.com/cockroachdb/apd/v3"
	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	gofrs "github.com/gofrs/uuid/v5"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/guregu/null/v6"
	"github.com/guregu/null/v6/zero"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/markbates/goth"
	"github.com/oklog/ulid/v2"
	"github.com/rs/xid"
	"github.com/samber/mo"
	"github.com/shopspring/decimal"
	"github.com/typedsessions/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/oauth2"
	"golang.org/x/text/currency"
	"golang.org/x/text/language"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"gorm.io/datatypes"
	"gorm.io/gorm"
)

// A row is a type with values of it that are to come back, also as JSON where
// that is the fix.
type row struct {
	typ, json reflect.Type
	values    []reflect.Value
	keeps     string // the verdict, if not the whole value comes back
}

// of makes the row of a type. The values have no part that is zero, where that
// can be.
func of[V any](values ...V) row {
	r := row{typ: reflect.TypeFor[V](), json: reflect.TypeFor[sessions.JSON[V]]()}
	for _, v := range values {
		r.values = append(r.values, reflect.ValueOf(&v).Elem())
	}
	return r
}

func (r row) as(verdict string) row {
	r.keeps = verdict
	return r
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

var (
	at  = time.Unix(1_700_000_000, 123_456_000)
	utc = at.UTC()
)

var rows = []row{
	of(must(uuid.Parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"))),
	of(uuid.NullUUID{UUID: uuid.Max, Valid: true}),
	of(gofrs.FromStringOrNil("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
	of(gofrs.NullUUID{UUID: gofrs.NamespaceDNS, Valid: true}),
	of(ulid.MustParse("01ARZ3NDEKTSV4RRFFQ69G5FAV")),
	of(must(xid.FromString("9m4e2mr0ui3e8a215n4g"))),
	of(must(bson.ObjectIDFromHex("507f1f77bcf86cd799439011"))),
	of(map[uuid.UUID]int{uuid.Max: 1}),
	of(decimal.RequireFromString("-12.3450")),
	of(decimal.NullDecimal{Decimal: decimal.RequireFromString("1.5"), Valid: true}),
	of(*apd.New(-123450, -4)),
	of(*money.New(1995, money.EUR)),
	of(new(big.Int).Lsh(big.NewInt(-7), 200)),
	of(*big.NewInt(-7)),
	of(*big.NewRat(-1, 3)),
	of(*new(big.Float).SetPrec(64).Quo(big.NewFloat(1), big.NewFloat(3))).as("comes back, with 64 bits of precision"),
	of(sql.NullString{String: "x", Valid: true}, sql.NullString{Valid: true}),
	of(sql.NullInt64{Int64: 5, Valid: true}),
	of(sql.NullTime{Time: at, Valid: true}),
	of(sql.Null[int]{V: 5, Valid: true}),
	of(gorm.Model{ID: 5, CreatedAt: at, UpdatedAt: at, DeletedAt: gorm.DeletedAt{Time: at, Valid: true}}),
	of(gorm.DeletedAt{Time: at, Valid: true}),
	of(datatypes.Date(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC))),
	of(datatypes.JSON(`{"a":1}`)),
	of(pgtype.Text{String: "x", Valid: true}, pgtype.Text{Valid: true}),
	of(pgtype.Int8{Int64: 5, Valid: true}),
	of(pgtype.Bool{Bool: true, Valid: true}),
	of(pgtype.Float8{Float64: 1.5, Valid: true}),
	of(pgtype.UUID{Bytes: [16]byte{1}, Valid: true}),
	of(pgtype.Timestamptz{Time: at, Valid: true}),
	of(pgtype.Date{Time: at, Valid: true}),
	of(pgtype.Numeric{Int: big.NewInt(15), Exp: -1, Valid: true}),
	of(null.StringFrom("x"), null.StringFrom("")),
	of(null.IntFrom(5), null.IntFrom(0)),
	of(null.BoolFrom(true), null.BoolFrom(false)),
	of(null.FloatFrom(1.5), null.FloatFrom(0)),
	of(null.TimeFrom(utc), null.TimeFrom(time.Time{})),
	of(zero.StringFrom("x"), zero.StringFrom("")),
	of(zero.IntFrom(5)),
	of(aarondl.StringFrom("x"), aarondl.StringFrom("")),
	of(aarondl.Int64From(5)),
	of(aarondl.TimeFrom(utc)),
	of(mo.Some(5), mo.Some(0), mo.None[int]()),
	of(mo.Left[int, string](5)),
	of(civil.Date{Year: 2026, Month: 1, Day: 2}),
	of(civil.DateTime{Date: civil.Date{Year: 2026, Month: 1, Day: 2}, Time: civil.Time{Hour: 3}}),
	of(language.MustParse("de-CH-1996")),
	of(currency.MustParseISO("CHF")),
	of(mail.Address{Name: "Ada", Address: "ada@example.com"}),
	of(json.RawMessage(`{"a": 1}`)),
	of(http.Cookie{Name: "a", Value: "b", Path: "/", Expires: at, SameSite: http.SameSiteLaxMode, Unparsed: []string{"x"}}),
	of(http.Header{"A": {"b", "c"}}),
	of(url.Values{"a": {"b"}}),
	of(must(url.Parse("https://u:p@example.com/a%2Fb?c=d#e"))).as("comes back; a pointer to an empty URL as nil"),
	of(*must(url.Parse("https://example.com/"))),
	of(netip.MustParseAddr("fe80::1%eth0")),
	of(netip.MustParseAddrPort("192.0.2.1:80")),
	of(netip.MustParsePrefix("192.0.2.0/24")),
	of(net.IPv4(192, 0, 2, 1)),
	of(net.IPNet{IP: net.IPv4(192, 0, 2, 0), Mask: net.CIDRMask(24, 32)}),
	of(net.HardwareAddr{1, 2, 3}),
	of(regexp.MustCompile("a+")),
	of(slog.LevelWarn),
	of(time.May),
	of(at).as("comes back as the instant, in time.Local"),
	of(jwt.RegisteredClaims{Issuer: "a", Audience: jwt.ClaimStrings{"b"}, ExpiresAt: jwt.NewNumericDate(utc)}),
	of(oauth2.Token{AccessToken: "a", TokenType: "b", RefreshToken: "c", Expiry: utc, ExpiresIn: 5}),
	of(&oauth2.Token{AccessToken: "a", Expiry: utc}),
	of(map[string]oauth2.Token{"a": {AccessToken: "a"}}),
	of(oauth2.Config{ClientID: "a", Endpoint: oauth2.Endpoint{TokenURL: "b"}, Scopes: []string{"c"}}),
	of(webauthn.SessionData{
		Challenge: "a", UserID: []byte("b"), AllowedCredentialIDs: [][]byte{[]byte("c")}, Expires: utc, UserVerification: protocol.VerificationRequired,
	}),
	of(webauthn.Credential{ID: []byte("a"), PublicKey: []byte("b"), Transport: []protocol.AuthenticatorTransport{protocol.USB}, Flags: webauthn.NewCredentialFlags(protocol.FlagUserPresent | protocol.FlagUserVerified)}),
	of(goth.User{UserID: "a", RawData: map[string]any{"id": 5.0, "list": []any{"x"}}, ExpiresAt: utc}),
	of(timestamppb.New(at)),
	of(must(structpb.NewStruct(map[string]any{"a": 1.5}))),
	of(sync.Mutex{}),
	of(atomic.Int64{}),
	of(&atomic.Bool{}),
	of(unique.Make("x")),
	of(time.UTC),
	of(http.Request{}),
	of(http.Client{}),
	of(errors.New("x")),
}
