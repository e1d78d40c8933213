package storetest

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/typedsessions/sessions"
)

func TestTheModelAcceptsOnlyLinearizableHistories(t *testing.T) {
	end := time.UnixMilli(1000)
	done := func(op string, version, expected uint64, err error, began, ended int64) porcupine.Operation {
		return porcupine.Operation{
			Input:  command{op: op, given: sessions.Record{Data: []byte(op), Version: expected, Expires: end}},
			Output: answer{got: sessions.Record{Version: version}, err: err},
			Call:   began, Return: ended,
		}
	}
	loaded := func(data string, version uint64, began, ended int64) porcupine.Operation {
		return porcupine.Operation{
			Input:  command{op: "Load"},
			Output: answer{got: sessions.Record{Data: []byte(data), Version: version, Expires: end}},
			Call:   began, Return: ended,
		}
	}
	lost := func(op string, expected uint64, began int64) porcupine.Operation {
		o := done(op, 0, expected, errors.New("cut"), began, math.MaxInt64)
		o.Output = answer{err: errors.New("cut"), unknown: true}
		return o
	}
	created := done("Create", 1, 0, nil, 1, 2)
	for _, tt := range []struct {
		name  string
		calls []porcupine.Operation
		want  bool
	}{
		{"a Load concurrent with an Update may return the old record", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 6), loaded("Create", 1, 4, 5)}, true},
		{"a Load concurrent with an Update may return the new record", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 6), loaded("Update", 2, 4, 5)}, true},
		{"a Load after an Update may not return the old record", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 4), loaded("Create", 1, 5, 6)}, false},
		{"Loads may not return the new record and then the old one", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 8), loaded("Update", 2, 4, 5), loaded("Create", 1, 6, 7)}, false},
		{"two Updates of one version may not succeed", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 5), done("Update", 3, 1, nil, 4, 6)}, false},
		{"an Update after a Delete may not succeed", []porcupine.Operation{created, done("Delete", 0, 0, nil, 3, 4), done("Update", 2, 1, nil, 5, 6)}, false},
		{"a Delete of a version of an absent record may not succeed", []porcupine.Operation{done("Delete", 0, 1, nil, 1, 2)}, false},
		{"two Creates may not succeed", []porcupine.Operation{done("Create", 1, 0, nil, 1, 3), done("Create", 2, 0, nil, 2, 4)}, false},

		{"an Update without an answer may have been carried out", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Update", 7, 5, 6), loaded("Update", 7, 7, 8)}, true},
		{"an Update without an answer may not have been carried out", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Create", 1, 5, 6), done("Update", 2, 1, nil, 7, 8), loaded("Update", 2, 9, 10)}, true},
		{"an Update without an answer may be carried out later", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Create", 1, 5, 6), loaded("Update", 7, 7, 8)}, true},
		{"an Update may not be carried out before it was called", []porcupine.Operation{created, loaded("Update", 7, 3, 4), lost("Update", 1, 5)}, false},
		{"an Update may not change only the version", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Create", 7, 5, 6)}, false},
		{"an Update may not be undone", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Update", 7, 5, 6), loaded("Create", 1, 7, 8)}, false},
		{"an Update may not have two versions", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Update", 7, 5, 6), loaded("Update", 8, 7, 8)}, false},
		{"an Update without an answer may not be carried out after a Delete", []porcupine.Operation{created, lost("Update", 1, 3), done("Delete", 0, 0, nil, 5, 6), loaded("Update", 7, 7, 8)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := porcupine.CheckOperations(model, tt.calls); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}
