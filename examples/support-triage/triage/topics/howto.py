"""Phrases of the topic `howto`: questions on how something is done."""

TEAM = "KNO-8"

SLOTS = {
    "how": "how do I|how can I|how should I|how does one|how could I",
    "way": "the right way to|the best way to|the steps to|the correct way to|a quick way to",
    "act": (
        "share a folder|archive a project|invite a guest|change the language|set a signature|create a template|"
        "rename a workspace|sort a list|pin a note|merge two pages|delegate a task|print a page"
    ),
    "guide": "guide|manual|tutorial|documentation|help page|handbook|walkthrough",
    "explain": "explain|tell me|show me|describe|help me understand",
    "other": "title bar|home page|start page|filter panel|history view",
    "part": "yellow icon|settings page|status field|sidebar|approval flow|archive menu|second tab",
}

# Slots whose words other topics use too: a form that has little beside these is given a detail.
WEAK = {"part", "other", "way", "explain"}

DETAILS = """
the {guide} does not {explain} it
I read the {guide} and the {part} is not in it
please {explain} how to {act} too
a {guide} to {act} would help
{how} find the {guide}
I want {way} {act}
the {part} and the {other} are not clear to me
can you {explain} {way} {act}
"""

SKELETONS = """
{how} {act} in {p}
where can I find the {part} of {p}
what is {way} {act} in {p}
can you {explain} how to {act}
which menu in {p} lets me {act}
I do not understand how to {act} in {p}
is there a {guide} for the first steps in {p}
can you {explain} what the {part} does
what does the {part} in {p} mean
{how} use the {part} of {p}
where is the {guide} that shows how to {act}
please {explain} how the {part} works
I am new to {p}, {how} {act}
could someone {explain} {way} {act}
a question: {how} {act}
the {guide} does not say how to {act}
I looked in the {guide} but where is the {part}
is it possible to {act} and {how} do it
which steps are needed to {act}
what do I click to {act} in {p}
do you have a {guide} on the {part}
what is the {part} good for
{explain} {way} {act} please
where do I go to {act}
{how} open the {part} in {p}
am I allowed to {act} and {how} start
before I {act}, what should I know
in which {guide} is the {part} described
what is the difference between the {part} and the {other} in {p}
a short {guide} on how to {act} would do
{how} find the {part}
I want to learn how to {act}
can I {act} from the {part}
what happens in {p} when I {act}
is there {way} {act}
my question is where the {part} is
how many clicks to {act} in {p}
please point me to the {guide} for {p}
for beginners: {how} {act}
who can {explain} the {part} to me
{how} undo it when I {act}
I need the {guide} to {act}
what are {way} {act}
when should I {act} in {p}
{how} get from the {part} to the {other}
could you send the {guide} for the {part}
training question: {how} {act} in {p}
I would like to know {way} {act}
does the {guide} cover how to {act}
{how} read the {part} of {p}
quick question about the {part}, {how} use it
where does {p} explain how to {act}
"""
