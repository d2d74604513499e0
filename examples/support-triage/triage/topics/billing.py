"""Phrases of the topic `billing`: invoices, charges, refunds and payments."""

TEAM = "FIN-4"

SLOTS = {
    "doc": "invoice|bill|statement|receipt|credit note|billing statement",
    "charged": "charged|billed|invoiced|debited",
    "money": "discount|refund|tax|VAT|renewal fee|credit|price|setup fee",
    "pay": "payment|credit card|direct debit|bank transfer|purchase order|card payment",
    "plan": "subscription|licence|contract|seats|plan|renewal",
    "wrong": "is wrong|is too high|does not match the quote|was not applied|is missing|appears twice",
    "when": "this month|last quarter|for March|this year|in the last cycle",
}

# Slots whose words other topics use too: a form that has little beside these is given a detail.
WEAK = {"wrong", "when"}

DETAILS = """
the {doc} and the {pay} are attached
our {plan} comes with a {money}
the {pay} for the {plan} was made
please check the {doc} and the {money}
the {plan} was {charged} last year too
the {money} is on the {doc}
we were {charged} by {pay}
finance asks about the {doc}
"""

SKELETONS = """
we were {charged} twice for {p} {when}
the {doc} for {p} shows the wrong {money}
please refund the unused {plan} of {p}
the {pay} on file for {p} was declined
the {pay} number is missing on the {p} {doc}
our {money} for {p} {wrong}
the {money} of {p} {wrong}
I need a {doc} for the {p} {pay}
the currency on the {p} {doc} {wrong}
we cancelled the {plan} of {p} but were {charged} again
the {doc} {when} {wrong}
our accountant asks for a {doc} {when}
the {pay} went through twice and we want a {money}
we were {charged} for a {plan} we never ordered
the {money} on the {doc} {wrong}
please send the {doc} for {p} once more
a reminder came although the {pay} was made
the {plan} {money} was raised without notice
our {pay} for {p} was refused by the bank
the amount on the {doc} {wrong}
we paid the {doc} for {p} and still get a dunning letter
please change the {pay} for our {plan}
the billing address on the {doc} {wrong}
we need the {money} as agreed in the {plan}
the {doc} lists {plan} that we returned
{p} {charged} our old {pay}
why were we {charged} for {p} {when}
the {money} promised for {p} {wrong}
finance cannot book the {doc} because the {money} {wrong}
the total of the {doc} and the {pay} differ
the yearly {plan} was {charged} as monthly
the {pay} is marked as open but we paid {when}
please split the {doc} for {p} by cost centre
a {money} for the cancelled {plan} is still open
the {doc} has no tax number
the {plan} of {p} was {charged} in dollars
the {pay} failed and the {plan} of {p} is on hold
we overpaid {when} and would like a {money}
the {charged} amount {wrong}
our {plan} was {charged} before the trial ended
the {doc} arrived without the {pay} reference
an unknown {money} is listed on the {doc}
the {doc} for {p} went to the wrong cost centre
the {money} line on our {plan} {doc} {wrong}
please correct the {doc} and the {money}
the {pay} receipt for {p} {wrong}
the quote for the {plan} and the {doc} do not agree
we want to pay {p} by {pay} instead
two {plan} were {charged} instead of one
the {doc} is overdue but the {pay} was sent {when}
{when} the {plan} was {charged} with a wrong {money}
the interest on the late {pay} {wrong}
"""
