package storetest

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/typedsessions/sessions"
)

func TestTheModelTellsHistoriesApart(t *testing.T) {
	end := time.UnixMilli(1000)
	done := func(op string, version, expected uint64, err error, began, ended int64) porcupine.Operation {
		return porcupine.Operation{
			Input:  call{op: op, given: sessions.Record{Data: []byte(op), Version: expected, Expires: end}},
			Output: answer{got: sessions.Record{Version: version}, err: err},
			Call:   began, Return: ended,
		}
	}
	loaded := func(data string, version uint64, began, ended int64) porcupine.Operation {
		return porcupine.Operation{
			Input:  call{op: "Load"},
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
		{"a Load beside the Update may see the old", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 6), loaded("Create", 1, 4, 5)}, true},
		{"a Load beside the Update may see the new", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 6), loaded("Update", 2, 4, 5)}, true},
		{"a Load after the Update may not see the old", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 4), loaded("Create", 1, 5, 6)}, false},
		{"not the new and then the old", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 8), loaded("Update", 2, 4, 5), loaded("Create", 1, 6, 7)}, false},
		{"not two Updates of one version", []porcupine.Operation{created, done("Update", 2, 1, nil, 3, 5), done("Update", 3, 1, nil, 4, 6)}, false},
		{"not an Update after the Delete", []porcupine.Operation{created, done("Delete", 0, 0, nil, 3, 4), done("Update", 2, 1, nil, 5, 6)}, false},
		{"not a Delete of nothing at a version", []porcupine.Operation{done("Delete", 0, 1, nil, 1, 2)}, false},
		{"not two Creates", []porcupine.Operation{done("Create", 1, 0, nil, 1, 3), done("Create", 2, 0, nil, 2, 4)}, false},

		{"an Update whose answer was lost may have been carried out", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Update", 7, 5, 6), loaded("Update", 7, 7, 8)}, true},
		{"or not", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Create", 1, 5, 6), done("Update", 2, 1, nil, 7, 8), loaded("Update", 2, 9, 10)}, true},
		{"or later", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Create", 1, 5, 6), loaded("Update", 7, 7, 8)}, true},
		{"but not before it was called", []porcupine.Operation{created, loaded("Update", 7, 3, 4), lost("Update", 1, 5)}, false},
		{"not in part", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Create", 7, 5, 6)}, false},
		{"not undone", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Update", 7, 5, 6), loaded("Create", 1, 7, 8)}, false},
		{"not under two versions", []porcupine.Operation{created, lost("Update", 1, 3), loaded("Update", 7, 5, 6), loaded("Update", 8, 7, 8)}, false},
		{"not after the Delete", []porcupine.Operation{created, lost("Update", 1, 3), done("Delete", 0, 0, nil, 5, 6), loaded("Update", 7, 7, 8)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := porcupine.CheckOperations(model, tt.calls); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}
