"""The grammar of the movie reviews, and its parser."""

import re

# One symbol per entry; `|` separates its alternatives, and `3 * text` is three times as likely as `text`.
# `{claim}` expands to a claim in the mood of its sentence, `{!claim}` to one in the opposite mood.
# Alternatives of `claim+` and `claim-` belong to one mood, those of `claim` to both.
TEXT = """
review:   3 * {line} | 7 * {short} | 12 * {medium} | 6 * {long} | 2 * {essay}
line:     2 * {opinion} {verdict} | {verdict} {opinion} | {contrast} {verdict}
short:    {opening} {opinion} {verdict} | {opinion} {opinion} {fact} {verdict}
        | {opinion} {concede} {opinion} {verdict} | {fact} {contrast} {verdict} | {opening} {talk} {verdict}
        | {hearsay} {opinion} {verdict}
medium:   {opening} {plot} {talk} {opinion} {verdict} | {fact} {talk} {opinion} {talk} {verdict}
        | {opening} {talk} {fact} {talk} {verdict} | {plot} {break} {opinion} {talk} {verdict}
        | {hearsay} {fact} {break} {talk} {talk} {verdict} | {opening} {plot} {talk} {talk} {verdict}
long:     {opening} {plot} {fact} {break} {talk} {talk} {talk} {verdict}
        | {opening} {talk} {break} {plot} {break} {talk} {fact} {talk} {verdict}
        | {hearsay} {plot} {quote} {break} {talk} {talk} {break} {fact} {opinion} {verdict}
essay:    {opening} {fact} {talk} {break} {plot} {quote} {break} {talks} {fact} {break} {talks} {finish}
        | {hearsay} {fact} {break} {plot} {quote} {break} {talks} {fact} {break} {talks} {talks} {finish}
finish:   {fact} {talk} {verdict} | {opinion} {contrast} {verdict} | {hearsay} {talk} {verdict}
talks:    {talk} {talk}
break:    <br /><br />
talk:     {opinion} {opinion} | 2 * {opinion} {opinion} {opinion} | {opinion} {opinion} {concede}
        | {concede} {opinion} {opinion} | {contrast} {opinion} {opinion} | {opinion} {hearsay}

opening:  2 * {fact} | {hearsay} | {opinion}
opinion:  12 * {claim}. | 3 * {claim}, {tail}. | {claim} and {claim}. | 2 * {intro}, {claim}. | {claim}!
tail:     believe me | and I don't say that often | at least in the version I saw | and my {relative} agrees
        | if I remember it right | as far as I can tell | and everybody in the room felt it
intro:    honestly | for me | as a fan of the genre | in my opinion | on the whole | what's more | seriously
        | this time | if you ask me | as far as I'm concerned
concede:  {!point}. | 2 * {grant} {!point}. | {!point}, I admit. | {!point}, I'll give it that.
grant:    to be fair, | granted, | I admit that | yes, | it is true that | of course | I will say that
contrast: 2 * {!point}, but {claim}. | although {!point}, {claim}.
        | {!point}. Still, {claim}. | {!point}; however, {claim}. | {claim}, even if {!point}.
        | {claim}, although {!point}. | {!point} and {!point}. And yet {claim}.
        | despite {thing} being {!quality}, {claim}.
hearsay:  {people} told me {!view}. {disagree}. | {people} told me {view}. {agree}.
        | {people} called it a {noun}. {agree}. | the critics called it "{!quality}". {disagree}.
        | the critics called it "{quality}". {agree}. | I expected a {!thrill}. Instead, {view}.
        | I expected a {!thrill}, and what I got was a {thrill}.
        | the trailer promised a {!thrill}. {disagree}: {view}.
        | from the poster I was sure it was a {!noun}. I was wrong.
        | you may have read that {!view}. {disagree}. | everybody says {view}, and everybody is right.
people:   my {relative} | a colleague | the man at the video store | my neighbor | a friend from college
disagree: I don't agree | I could not disagree more | that is not what I saw
        | that must have been another film | well, no
agree:    I agree | that is exactly it | they were right for once | so it is | fair enough

verdict:  2 * {sum} {claim}. | {sum} {!view}, but {view}. | {title} is a {noun}. | {advise}.
        | {advise}! | {title} is {no} {!noun}. | {sum} it is a {noun}, not a {!noun}.
        | {sum} it is {no} {!noun}. | {sum} {title} is {dull}. | did I {react}? Yes. Did I {!react}? No.
        | would I see it again? {again}. | a {thrill}. {advise}.
        | {!quality} at times, but {quality} where it counts. | not {!quality}, not {!dull}. {advise}.
        | {quality} and {dull}.
sum:      all in all, | in the end, | to sum up: | overall, | bottom line:
        | when the lights went up, I thought:
again+:   yes | tomorrow | any time, and not only for {star}
again-:   no | not even for {star} | only if somebody paid me
advise:   2 * {advice} | don't {!advice} | there is no reason to {!advice} | please {advice}
advice+:  see it | buy a ticket | watch it with your {relative} | give it a chance | rent it tonight
        | stay to the end
advice-:  skip it | avoid it | save your money | stay at home | give it a miss | leave it on the shelf

claim:    9 * {point} | 2 * {remark} | {whole}
whole:    {director} has made a {noun} | {director} didn't make a {!noun} | what a {noun} it was
        | to my surprise {title} turned out to be a {thrill} | to my surprise {title} was not a {!thrill}
point:    5 * {plain} | 3 * {denied}
view:     2 * {subject} {quality} | {film} was {dull} | {subject} not {!quality}
        | {film} was never {!dull}
plain:    6 * {subject} {quality} | 2 * {subject} {very} {quality} | {star} was {acted} as {hero}
        | {player} was {acted} | I found {thing} {quality} | {film} was {dull} {span} | I was {feeling} {span}
        | it made me {react} | there was something {quality} about {thing}
        | {player} gave a {acted} performance | I {liked} {thing} | I {liked} {thing} and {thing}
        | {thing} was the {best} thing about it
        | {player} was {acted}, especially in {part} | {thing} left me {feeling}
        | {film} was {very} {dull} | {film} was {dull}
denied:   5 * {subject} not {!quality} | {subject} {not} {!quality} | {subject} never {!quality}
        | {film} was not {!dull} | {film} was never {!dull} | 2 * {player} was not {!acted}
        | I never found {thing} {!quality} | I was never {!feeling} | it never made me {!react}
        | I didn't {!react} | there was nothing {!quality} about {thing} | I can't say I was {!feeling}
        | I didn't {!like} {thing} | nobody could call {thing} {!quality}
        | {film} wasn't {!dull} | {thing} didn't leave me {!feeling} | not one scene in it was {!dull}
not:      2 * not | never | hardly | far from | anything but | not at all | by no means | not exactly
no:       not a | hardly a | far from a | anything but a
very:     really | so | quite | truly | simply | just
span:     from start to finish | most of the time | for {minutes} minutes | after the first reel | right away
subject:  3 * {thing} was | {things} were
thing:    the acting | the script | the music | the camera work | the ending | the plot | the dialogue
        | the editing | the first half | the second half | the pacing | the casting | the lighting
        | the love story | the humor | the opening scene | the final chase | the sound | the soundtrack
        | the story | the {genre} part | the twist
player:   {star} | {costar} | the lead | the villain | the child actor | the narrator
        | the actor who plays the {job}
things:   the songs | the special effects | the costumes | the jokes | the flashbacks | the sets
        | the supporting actors | the fight scenes | the characters | the child actors | the last ten minutes
film:     it | the film | the movie | {title} | the whole thing | this {genre}
quality+: 5 * good | 4 * great | 2 * excellent | brilliant | wonderful | clever | convincing | impressive
        | memorable | original | superb | beautiful | believable | fresh | solid | strong | subtle | effective
        | first-rate
quality-: 5 * bad | 4 * awful | 2 * terrible | weak | clumsy | lazy | forgettable | predictable | laughable
        | cheap | horrible | ugly | ridiculous | stale | sloppy | poor | wooden | irritating | second-rate
acted+:   3 * good | 2 * great | excellent | brilliant | wonderful | convincing | impressive | superb
        | believable
acted-:   3 * bad | 2 * awful | terrible | wooden | laughable | forgettable | ridiculous | clumsy | poor
dull+:    3 * funny | gripping | moving | exciting | entertaining | charming | fascinating | enjoyable
        | touching
dull-:    3 * boring | tedious | dull | silly | pointless | slow | annoying | lifeless | confusing
feeling+: moved | amused | entertained | hooked | charmed | impressed | delighted | thrilled
feeling-: bored | annoyed | disappointed | irritated | confused | tired | embarrassed | cheated
react+:   laugh | smile | cheer | care about {hero} | want to see more | cry | forget the time | sit up
react-:   yawn | look at my watch | groan | reach for my phone | want my money back | fall asleep
        | roll my eyes
liked+:   liked | loved | enjoyed | really liked | admired
liked-:   hated | disliked | couldn't stand | really hated | suffered through
like+:    like | love | enjoy | admire
like-:    hate | mind | dislike | regret
best+:    best | nicest | finest
best-:    worst | weakest | silliest
part:     the courtroom scene | the scene at the station | the rain scene | the second half | the final chase
remark+:  the jokes land | you can tell that everybody had fun making it | the two hours flew by
        | it stays with you for days | we talked about it all the way home | the ending gave me goose bumps
        | it all comes together in the last act | {director} knows exactly where to put a camera
        | you believe every word {star} says | it gets better with every reel
        | {star} deserves an award for this | I want to see it again | even my {relative} put the phone away
        | {star} and {costar} are perfect together | it has heart | I have rarely seen better acting
        | you can feel the love in it
remark-:  the jokes fall flat | you can tell that nobody had fun making it | the two hours felt like five
        | it has no heart | we forgot about it on the way home | the ending comes out of nowhere
        | it all falls apart in the last act | {director} has no idea where to put a camera
        | you don't believe a word {star} says | it gets worse with every reel
        | {star} walks through it half asleep | I want those hours back
        | even my {relative} took out the phone | {star} and {costar} have no chemistry at all
        | the plot makes no sense | I have seen better acting in commercials
noun+:    masterpiece | gem | classic | triumph | winner | delight | small wonder
noun-:    mess | disaster | failure | flop | turkey | bore | waste of time
thrill+:  fun evening | good laugh | {dull} film | {quality} {genre} | great night out | {dull} {genre}
thrill-:  long evening | bad joke | {dull} film | {quality} {genre} | two-hour headache | {dull} {genre}

fact:     I saw it {where} with my {relative}. | I watched this {where}, {weekday}. | this was made in {year}.
        | it runs {minutes} minutes. | {star} plays {hero}. | {costar} plays the {job}.
        | {director} directed it. | it is based on a novel by {author}.
        | I am {age} and I go to the movies about once a {period}.
        | the {job} is played by {costar}, whom you may know from "{other}".
        | {director} also made "{other}", which I haven't seen. | it was shot in {place}.
        | the budget was {millions} million dollars. | the DVD has a commentary by {director}.
        | there were {crowd} people in the theater. | it was raining that night.
        | this is my {nth} review here. | I rented it because of {star}. | my {relative} picked it.
        | I read the book {years} years ago. | it came out the same year as "{other}".
        | there is a sequel, I hear.
        | the DVD cost me {age} cents at a yard sale. | {star} and {costar} were also together in "{other}".
        | I saw it twice, once {where} and once on TV. | my copy was in Italian with subtitles.
        | it takes place in {place}, in {year}. | the credits list {age} stuntmen.
quote:    at one point {hero} says: "{saying}" | the {job} lights a cigarette and says: "{saying}"
        | as {hero} puts it: "{saying}" | the poster says: "{saying}"
saying:   Nobody good ever came back from {place}. | There are no bad days, only long ones.
        | I never loved you, but I fed your dog. | You are a terrible liar and a wonderful cook.
        | It's not the fall, it's the paperwork. | We leave at dawn or not at all.
        | I have been bored since {year}. | Best day of my life, worst shoes. | Trust me, I'm a {job}.
plot:     {who}. {trouble}. | {who}. {trouble}. {ending} | a word about the plot. {who}. {trouble}.
        | {who}. {trouble}. {quote}
who:      {hero} is a {trait} {job} in {place}
        | {hero}, a {trait} {job}, comes back to {place} after {years} years
        | in {year}, a {trait} {job} called {hero} arrives in {place}
        | {hero} ({star}) works as a {job} in {place}
        | it is about {hero}, a {trait} {job} with a {trait} brother
        | {star} is {hero}, a {job} who has left {place}
trait:    lonely | retired | young | brilliant | terrible | shy | good-hearted | bad-tempered | widowed
        | clumsy | lazy | bored | charming | famous | poor | forgetful | funny | disappointed | honest
        | strange | beautiful | weak
trouble:  one day a {trait} stranger ({costar}) moves in next door | then a {job} is found dead in the harbor
        | a letter arrives, {years} years late | somebody steals the {job}'s car | the bank wants the house
        | {hero} falls in love with a {trait} {job} ({costar})
        | the wedding is on Saturday and the ring is gone | a terrible storm cuts off the town
        | only the {trait} {job} ({costar}) knows the truth | soon half of {place} is looking for the money
        | {hero} wins a great deal of money and tells nobody
ending:   I won't say how it ends. | of course there is a train at the end. | in the end everybody goes home.
        | you can guess the rest. | there is a murder too. | then the war breaks out.
        | it all comes out in court.
job:      teacher | detective | baker | sailor | nurse | piano tuner | lawyer | farmer | pilot | dentist
        | janitor | priest | spy | journalist | boxer | cook | librarian | cab driver | gardener | magician
where:    at a festival | on a plane | on cable | in an old theater downtown | at a friend's house | on DVD
        | on video | in a hotel room | at the drive-in
weekday:  on a Sunday | late at night | on a Tuesday afternoon | over two evenings | during the holidays
        | with the flu
relative: partner | brother | sister | mother | father | daughter | son | roommate | aunt | cousin
period:   week | month | year
nth:      first | second | third | tenth
other:    {name}
title:    "{name}" | {name}
hero:     {last}
star:     {first} {last}
costar:   {first} {last}
director: {first} {last}
author:   {first} {last}
year:     19{decade}{digit}
decade:   3 | 4 | 5 | 6 | 7 | 8 | 9
digit:    0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
minutes:  8{digit} | 9{digit} | 10{digit} | 11{digit}
age:      2{digit} | 3{digit} | 4{digit} | 5{digit} | 6{digit}
years:    ten | fifteen | twenty | thirty
millions: two | six | eleven | 4{digit}
crowd:    four | seven | maybe a dozen | perhaps thirty | only three
name:     The {epithet} {object} | {object} of {place} | The {object} | {object} and {object}
        | Return to {place} | The {owner}'s {object} | {epithet} {object} | Goodbye, {first}
        | {first} and the {object} | {number} {object}s
owner:    Admiral | Widow | Baker | Sailor | Dentist | Gambler | Bishop | Stranger
epithet:  Last | Silent | Crooked | Red | Hidden | Second | Paper | Winter | Midnight | Broken | Yellow
        | Northern | Hollow | Iron
object:   Harbor | Letter | Window | Orchard | Bridge | Train | Garden | Lantern | Ticket | Mirror | River
        | Suitcase | Clock | Ferry | Summer | Stranger | Staircase | Island | Violin | Shadow
number:   Two | Three | Seven | Nine | Twelve
place:    Brackwater | Port Alder | Lindholm | San Telmo | Castle Bay | Ostrava Street | Millhaven
        | Kettle Creek | Dunmore | Santa Rosalba | Upper Fenwick | Varnsdorf | Marrow Point | Bellamy
        | Tornio Falls
genre:    comedy | thriller | western | musical | drama | horror film | war movie | romance | mystery
        | crime story
first:    Clara | Dennis | Marlene | Victor | Ada | Tobias | Ruth | Felix | Ingrid | Samuel | Nora | Hugo
        | Paula | Walter | Lena | Oscar | Judith | Ramon | Sylvie | Eddie
last:     Harlan | Bexley | Morrow | Castellan | Quist | Dorsey | Vantongeren | Pell | Okafor | Lindqvist
        | Marsh | Tremaine | Ibarra | Hollis | Kowalk | Brandt | Yates | Delacourt | Finch | Sorel
"""


def parse(text: str) -> dict[str, list[str]]:
    """Return the alternatives of each symbol (with the sign of its mood, if any), repeated by their weights.

    >>> parse("end: 2 * good | bad")
    {'end': ['good', 'good', 'bad']}
    """
    grammar = {}
    for symbol, body in re.findall(r"^(\w+[+-]?):(.*(?:\n +\S.*)*)", text, re.MULTILINE):
        weighted = re.findall(r" *(?:(\d+) \* )?([^|]+)", " ".join(body.split()))
        grammar[symbol] = [template.strip() for weight, template in weighted for _ in range(int(weight or 1))]
    return grammar


GRAMMAR = parse(TEXT)
