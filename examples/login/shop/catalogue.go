package shop

import "fmt"

// A product is an article of the shop.
type product struct {
	ID, Name, Text string
	Price          cents
}

type cents int

func (c cents) String() string { return fmt.Sprintf("€%d.%02d", c/100, c%100) }

var catalogue = []product{
	{"field", "Field notebook", "Plain paper and a cover that takes rain. Fits the back pocket.", 900},
	{"dotted", "Dot grid journal", "A5, 120 g paper that fountain pens get along with.", 1850},
	{"staff", "Staff book", "Twelve staves to the page, bound to lie flat on the stand.", 1600},
	{"ledger", "Ledger", "Ruled in two columns, for accounts of any kind.", 2200},
}

const maxPerProduct = 99 // as the validate tag of AppSession.Cart says

func productByID(id string) (product, bool) {
	for _, p := range catalogue {
		if p.ID == id {
			return p, true
		}
	}
	return product{}, false
}

// A cartLine is a product in the cart, with its number.
type cartLine struct {
	product
	Count int
}

func (l cartLine) Sum() cents { return l.Price * cents(l.Count) }

// cartLines returns the lines of the cart, in the order of the catalogue, and
// their sum. A product that is no longer in the catalogue is left out.
func cartLines(cart map[string]int) (lines []cartLine, total cents) {
	for _, p := range catalogue {
		if n := cart[p.ID]; n > 0 {
			line := cartLine{p, n}
			lines = append(lines, line)
			total += line.Sum()
		}
	}
	return lines, total
}
