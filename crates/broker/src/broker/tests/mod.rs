mod expiring;
mod positions;
mod publishing;
mod reading;
mod route_keys;
mod streams;
mod users;
