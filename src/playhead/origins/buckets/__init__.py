"""The parts of `objects`: what a bucket is (bucket), S3 by requests that we sign (s3, on s3api and sigv4), large files
in parts (multipart), and everything else through obstore (obstored, on blocks and refusals)."""
