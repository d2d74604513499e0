"""Common words and values that give the tiny base a language beyond tickets."""

from triage.language import CATEGORIES

_COMMON = """
a about above accept across act add after afternoon again against age ago agree air all allow almost alone along
already also although always am among an and animal another answer any anyone anything appear apple are area arm
around arrive art as ask at autumn away baby back bad bag ball bank base be bear beautiful because become bed before
begin behind believe below best better between big bird black blue board boat body book both bottle bottom box boy
branch bread break bridge bright bring brother brown build bus business busy but button buy by cake call camera can
cancel candle car card care carry case cat catch change check child choose church circle city class clean clear clock
close cloud coat coffee cold colour come common company complete cook cool copy corner correct cost could country
course cover create cross cup cut dance dark date daughter day decide deep desert desk did different difficult dinner
do doctor dog done door down draw dream dress drink drive drop dry during each ear early earth east easy eat edge egg
eight either else empty end engine enough enter even evening every exact example eye face fact fall family far farm
fast father feel feet few field fight figure fill find fine finger finish fire first fish five floor flower fly follow
food foot for forest forget form forward four free fresh friend from front fruit full game garden gave get girl give
glass go goal gold good grass great green grey ground group grow guess hair half hall hand happen happy hard has hat
have he head hear heart heat heavy held hello help her here high hill him his hold hole holiday home hope horse hot
hotel hour house how hundred hurry ice if important in inside into iron is island it item job join jump just keep key
kind kitchen knew know lady lake land language large last late later laugh lead leaf learn leave left leg lemon less
let letter level library lie life light like line list listen little live long look lose lot love low lunch machine
made main make man many map mark market matter may me mean measure meat meet member middle might mile milk mind minute
mirror miss money month moon more morning most mother mountain mouth move much music must my name near need never new
news next nice night nine no noise none north nose not note nothing now number ocean of off office often oil old on
once one only open or orange order other our out outside over own page paint pair paper park part party pass past
path pay pen people person phone picture piece place plain plan plane plant play please pocket point poor possible
present press pretty pull push put question quick quiet rain reach read ready real reason red remember rest rice rich
ride right ring rise river road rock roof room round rule run sad safe salt same sand save say school sea season seat
second see seem sell send seven several shall shape she ship shoe shop short should show side sign silver simple since
sing sister sit six size sky sleep slow small smile snow so some someone something son song soon sound soup south
space speak spring square stand star start state station stay step still stone stop store storm story street strong
student such sugar summer sun sure sweet swim table take talk tall tea teach tell ten than thank that the their them
then there these they thing think third this those though thought thousand three through ticket time tired to today
together tomorrow too top touch towards town toy train tree triage true try turn two uncle under understand until up
us use valley very village visit voice wait walk wall want warm was wash watch water way we wear weather week weight
well went were west wet what wheel when where which while white who why wide wife wild will wind window wine winter
wish with woman wonder wood word work world would write wrong year yellow yes yesterday yet you young your zero
"""
COMMON = tuple(_COMMON.split())

CITIES = ("Berlin", "Lyon", "Porto", "Oslo", "Graz", "Turin", "Cork", "Gent", "Malmo", "Bern")
COLOURS = ("red", "blue", "green", "grey", "black", "white", "yellow", "brown")
STATES = ("open", "closed", "waiting", "done", "new", "lost")
REASONS = ("upgrade", "repair", "move", "audit", "training", "loan")
GOODS = ("furniture", "garden", "toys", "music", "food", "books", "shoes", "tools")
# The words that triage uses as labels are words like any other: here they are values to copy, related to no topic.
LABEL_WORDS = CATEGORIES
