"""Phrases of the topic `feature`: wishes, ideas and suggestions for the product."""

TEAM = "PRD-7"

SLOTS = {
    "want": "please add|we would like|we wish for|could you build|we suggest|please consider|we propose",
    "thing": (
        "dark mode|a weekly summary|an export button|keyboard shortcuts|a mobile view|a second approval step|"
        "bulk editing|a calendar view|a Polish translation|custom filters|dashboard widgets|a dark theme"
    ),
    "gain": "save us time|help the team a lot|make life easier|be a great improvement|reduce clicks|be very welcome",
    "idea": "idea|suggestion|wish|proposal|improvement|feature request|enhancement",
    "enh": "improvement|extension|enhancement|add-on",
    "plan": "roadmap|next release|future version|backlog|product plan",
}

# Slots whose words other topics use too: a form that has little beside these is given a detail.
WEAK = {"gain"}

DETAILS = """
this {idea} would {gain}
{want} it on the {plan}
it is an {enh} for the {plan}
the {idea} is {thing}
{thing} would be an {enh}
other users share the {idea}
the {plan} could take the {idea}
I hope the {idea} fits the {plan}
"""

SKELETONS = """
it would {gain} if {p} had {thing}
{want} {thing} to {p}
can {p} support {thing} in a future version
{want} {thing} in {p}
is there a plan to bring {thing} to {p}
could {p} offer {thing}
{want} {thing}, it would {gain}
{thing} in {p} would {gain}
is {thing} on the {plan}
I have an {idea}: {thing} for {p}
my {idea} is {thing}
here is a {idea} for the {plan}
{want} {thing} in the {plan}
an {idea} from our users: {thing}
{p} lacks {thing}, that would be a nice {idea}
other tools have {thing}, {want} it too
a small {idea} that would {gain}
when will {p} get {thing}
voting for {thing} in the {plan}
please put {thing} on the {plan}
{thing} would {gain} for all who use {p}
it would be nice if {p} came with {thing}
we miss {thing} in {p}
our {idea} for {p}: {thing}
I would love to see {thing} in the {plan}
a {idea} for {p} that would {gain}
have you thought about {thing}
consider {thing} as an {idea} for the {plan}
{want} an option for {thing}
adding {thing} would {gain}
the missing {thing} in {p} should come in the {plan}
what about {thing} as an {idea}
it is only a {idea}, but {thing} would {gain}
our customers ask for {thing}
{p} should learn {thing}
why is {thing} not on the {plan}
{want} that {p} offers {thing}
the {plan} should include {thing}
a request for the {plan}: {thing}
we voted and the best {idea} is {thing}
{thing} is our top {idea}
if the {plan} had {thing} it would {gain}
I am missing {thing}, {want} it
extend {p} with {thing} please
new {idea} from the workshop: {thing}
{want} {thing} or something like it
{thing} next to the menu would {gain}
the {idea} of the week is {thing}
could the {plan} bring {thing} to {p}
as an {enh} we think of {thing}
let {p} have {thing}, that would {gain}
a wish for {p}, namely {thing}
"""
