"""Files that their server does not hand out itself: it names an address at which they are."""

from __future__ import annotations

import pytest

from federated import refused
from third import third_server

pytestmark = pytest.mark.synapse

PORT = 8457


async def test_a_file_that_its_server_keeps_elsewhere_is_fetched_from_there_on_both_sides(federation, pair):
    with third_server(federation, PORT) as third:
        for person in pair:
            path = f"/_matrix/client/v1/media/download/{third.name}"
            assert await person.request("GET", f"{path}/picture", raw=True) == third.file
            # What is not there either is not there.
            await refused(person.request("GET", f"{path}/nothing"), "M_NOT_FOUND", "M_UNKNOWN")
        third.close()
        # It is kept: nobody is asked again.
        for person in pair:
            assert await person.request("GET", f"{path}/picture", raw=True) == third.file
