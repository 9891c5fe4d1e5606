"""Does a backend compute what the module computed: measured, judged, repeated and reported."""
