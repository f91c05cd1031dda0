// The store's HTTP face, as clickhouse-go sees it: the client of Grafana's ClickHouse data source.
// Needs RENTROLL_STORE_URL, RENTROLL_STORE_USER and RENTROLL_STORE_PASSWORD.
package clients

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const late = "SELECT number, throwIf(number = 3000000) FROM numbers(10000000)"

func connect(t *testing.T, method clickhouse.CompressionMethod, password string) driver.Conn {
	t.Helper()
	address, err := url.Parse(os.Getenv("RENTROLL_STORE_URL"))
	if err != nil {
		t.Fatal(err)
	}
	connection, err := clickhouse.Open(&clickhouse.Options{
		Addr:        []string{address.Host},
		Protocol:    clickhouse.HTTP,
		Auth:        clickhouse.Auth{Database: "default", Username: os.Getenv("RENTROLL_STORE_USER"), Password: password},
		Compression: &clickhouse.Compression{Method: method},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheCredentialIsChecked(t *testing.T) {
	err := connect(t, clickhouse.CompressionNone, "wrong").Ping(context.Background())
	if err == nil || !strings.Contains(err.Error(), "516") {
		t.Fatal(err)
	}
}

func TestWhatIsInsertedComesBack(t *testing.T) {
	methods := []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4, clickhouse.CompressionGZIP}
	for _, method := range methods {
		t.Run(method.String(), func(t *testing.T) {
			ctx := context.Background()
			c := connect(t, method, os.Getenv("RENTROLL_STORE_PASSWORD"))
			must(t, c.Ping(ctx))
			must(t, c.Exec(ctx, "DROP DATABASE IF EXISTS client_go"))
			must(t, c.Exec(ctx, "CREATE DATABASE client_go ENGINE = Atomic"))
			must(t, c.Exec(ctx, `CREATE TABLE client_go.t (n UInt64, s String, t DateTime('UTC'),
				l LowCardinality(String), o Nullable(Int32), a Array(String), m Map(String, UInt64))
				ENGINE = MergeTree ORDER BY n`))
			batch, err := c.PrepareBatch(ctx, "INSERT INTO client_go.t")
			must(t, err)
			when := time.Unix(1767323045, 0).UTC()
			for n := uint64(0); n < 100_000; n++ {
				must(t, batch.Append(n, "row\n\n", when, "k", nil, []string{"a"}, map[string]uint64{"x": n}))
			}
			must(t, batch.Send())
			rows, err := c.Query(ctx, "SELECT n, s, t, l, o, a, m FROM client_go.t ORDER BY n")
			must(t, err)
			next := uint64(0)
			for rows.Next() {
				var n uint64
				var s, l string
				var at time.Time
				var o *int32
				var a []string
				var m map[string]uint64
				must(t, rows.Scan(&n, &s, &at, &l, &o, &a, &m))
				if n != next || s != "row\n\n" || !at.Equal(when) || l != "k" || o != nil || len(a) != 1 || m["x"] != n {
					t.Fatal(n, s, at, l, o, a, m)
				}
				next++
			}
			must(t, rows.Err())
			if next != 100_000 {
				t.Fatal(next)
			}
			rows, err = c.Query(ctx, "SELECT n FROM client_go.t WHERE n > 100000")
			must(t, err)
			if rows.Next() || rows.Err() != nil {
				t.Fatal("there are no such rows", rows.Err())
			}
			var sum uint64
			must(t, c.QueryRow(ctx, "SELECT sum(n) FROM client_go.t WHERE n < {x:UInt64}", clickhouse.Named("x", "10")).Scan(&sum))
			if sum != 45 {
				t.Fatal(sum)
			}
			must(t, c.Exec(ctx, "DROP DATABASE client_go"))
		})
	}
}

func TestALateErrorIsNeverAnEnd(t *testing.T) {
	ctx := context.Background()
	for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4} {
		c := connect(t, method, os.Getenv("RENTROLL_STORE_PASSWORD"))
		rows, err := c.Query(ctx, late)
		if err == nil {
			for rows.Next() {
			}
			err = rows.Err()
		}
		if err == nil || !strings.Contains(err.Error(), "395") {
			t.Fatal(method, err)
		}
	}
}
