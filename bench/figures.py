"""What follows from the runs: rates, and ratios within one round."""

from contenders import OURS


def rate(run):
    return run["requests"] / run["seconds"]


def good(runs, question, contender):
    """The runs in which *contender* did what *question* asks."""
    return [
        each
        for each in runs
        if (each["load"], each["contender"]) == (question, contender)
        and "failed" not in each
    ]


def reasons(runs, question, contender):
    """Why *contender* failed, where it did."""
    return sorted(
        {
            each["failed"]
            for each in runs
            if (each["load"], each["contender"]) == (question, contender)
            and "failed" in each
        }
    )


def ratios(runs, load, contender):
    """By what factor maitred is faster than *contender*, in each round."""
    others = {each["round"]: rate(each) for each in good(runs, load, contender)}
    return [
        rate(each) / others[each["round"]]
        for each in good(runs, load, OURS)
        if others.get(each["round"])
    ]


def values(runs, measure, contender):
    """What *measure* gave, in each round."""
    return [each["value"] for each in good(runs, measure, contender)]
